# SPDX-License-Identifier: Apache-2.0
"""What operators are shown of a load balancer."""

import dataclasses
import datetime
from typing import Any

import pytest

from cnsmo.services.kit import boot
from cnsmo.services.loadbalancer.desired import Bind, Pool, Server
from cnsmo.services.loadbalancer.drivers.hap_leaving import Leaver
from cnsmo.services.loadbalancer.drivers.hap_pem import Validity
from cnsmo.services.loadbalancer.drivers.hap_render import render
from cnsmo.services.loadbalancer.drivers.hap_report import (
    Report,
    detail,
    place,
    problems,
    unsettled,
)
from cnsmo.services.loadbalancer.drivers.hap_stat import Row
from cnsmo.services.loadbalancer.drivers.leave import Leave
from tests.unit.services.loadbalancer.drivers.hap_words import HOST, PLAIN

WEB1, WEB2 = Server("web1", "10.66.0.1", 80), Server("web2", "10.66.0.2", 80)
NAME1, NAME2 = "web1_10.66.0.1_80", "web2_10.66.0.2_80"
DESIRED = dataclasses.replace(PLAIN, pools=(Pool("www", (WEB1, WEB2)),))
CONFIG = render(DESIRED, HOST)


def row(name: str, status: str, **fields: Any) -> Row:
    return Row("www", name, 2, {"status": status, **{key: str(it) for key, it in fields.items()}})


def report(*rows: Row, old: tuple[Row, ...] = (), info: str = "", **leavers: Leaver) -> Report:
    return Report(rows, old, info, {("www", it.server.name): it for it in leavers.values()})


def state(status: str, **changes: Any) -> tuple[str, str]:
    server = dataclasses.replace(WEB1, **changes)
    desired = dataclasses.replace(PLAIN, pools=(Pool("www", (server,)),))
    config = render(desired, HOST)
    (name,) = (it.name for it in config.servers.values())
    known = row(name, status, check_desc="Layer7 wrong status", check_code=503, last_chk="Busy")
    found = detail(desired, config, report(known))["servers"]["www"]["web1"]
    return found["state"], found["why"]


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        ("UP", "up"), ("UP 1/3", "up"), ("DOWN", "down"), ("DOWN 1/2", "down"),
        ("no check", "unchecked"), ("MAINT", "drain"), ("DRAIN", "drain"),
        ("NOLB", "down"), ("NOLB 1/3", "down"),
    ],
)  # fmt: skip
def test_states(status: str, shown: str) -> None:
    assert state(status) == (shown, "Layer7 wrong status: 503 Busy")


def test_who_gets_nothing_is_drained_unless_he_is_down() -> None:
    assert state("UP", weight=0)[0] == "drain"
    assert state("DOWN", weight=0)[0] == "down"
    assert state("MAINT", drain=True)[0] == "drain"


def test_figures_and_who_leaves() -> None:
    server = CONFIG.servers["www", NAME2].model_copy(update={"name": "web2_10.66.0.9_80"})
    leaver = Leaver(server=server, leave=Leave(0, boot.now() + 20))
    other = server.model_copy(update={"name": "web9_1", "host": "web9"})
    alone = Leaver(server=other, leave=Leave(0, 0))
    rows = (
        row(NAME1, "UP", scur=1, stot=10, rate=2, econ=3, eresp=4, weight=5),
        row(NAME2, "UP"),
        row("web2_10.66.0.9_80", "MAINT", scur=1),
    )
    old = (row("web2_10.66.0.9_80", "UP", scur=2), row("web9_1", "UP", scur=3))
    found = detail(DESIRED, CONFIG, report(*rows, old=old, one=leaver, two=alone))["servers"]["www"]
    assert found["web1"] == {
        "state": "up", "why": "", "weight": 5, "sessions": 1, "total": 10, "rate": 2, "errors": 7,
    }  # fmt: skip
    assert found["web2_10.66.0.9_80"]["state"] == "leaving"
    assert found["web2_10.66.0.9_80"]["sessions"] == 3
    assert found["web2_10.66.0.9_80"]["why"] in ("its connections are ended in 20 s",
                                                 "its connections are ended in 19 s")  # fmt: skip
    assert found["web9"]["sessions"] == 3


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([row(NAME1, "UP"), row(NAME2, "DOWN", check_status="L4CON")], []),
        ([row(NAME1, "no check"), row(NAME2, "DOWN", check_status="L4CON")], []),
        (
            [row(NAME1, "MAINT"), row(NAME2, "DOWN", check_status="L4CON")],
            ["no server of the pool www is up"],
        ),
        ([row(NAME1, "DOWN", check_status="INI"), row(NAME2, "MAINT")], []),
        ([row(NAME1, "DOWN 1/2", check_status="L4OK"), row(NAME2, "MAINT")], []),
        ([row(NAME1, "NOLB", check_status="L4OK"), row(NAME2, "MAINT")], []),
        (
            [row(NAME1, "NOLB 2/3", check_status="L4CON"), row(NAME2, "MAINT")],
            ["no server of the pool www is up"],
        ),
    ],
)
def test_a_pool_without_anybody_is_a_problem_once_that_is_known(
    rows: list[Row], said: list[str]
) -> None:
    assert problems(DESIRED, CONFIG, report(*rows)) == said
    fresh = any(it.text("check_status") in ("INI", "L4OK") for it in rows)
    assert unsettled(CONFIG, report(*rows)) is fresh


def test_connections_for_which_there_is_no_room_are_a_problem() -> None:
    desired = dataclasses.replace(DESIRED, max_connections=10000)
    rows = (row(NAME1, "UP"), row(NAME2, "UP"))
    tight = report(*rows, info="Ulimit-n: 15000\nMaxsock: 20035\nMaxconn: 10000")
    (said,) = problems(desired, CONFIG, tight)
    assert said.endswith("about 7482 connections have room")
    wide = report(*rows, info="Ulimit-n: 20035\nMaxsock: 20035")
    assert problems(desired, CONFIG, wide) == []
    assert problems(DESIRED, CONFIG, tight) == []


def test_places_are_written_as_people_do() -> None:
    assert [place(Bind(it, 80)) for it in ("", "10.0.0.1", "fd00::1")] == [
        "*:80", "10.0.0.1:80", "[fd00::1]:80",
    ]  # fmt: skip


def test_when_a_certificate_is_worth_a_word() -> None:
    now = datetime.datetime(2026, 11, 23, 12, tzinfo=datetime.UTC)
    day = datetime.timedelta(days=1)

    def doubt(begins: float, ends: float) -> str:
        return Validity(("a",), now + begins * day, now + ends * day).doubt(now)

    assert doubt(-1, 15) == ""
    assert doubt(-1, 13.5) == "expires in 13 days, on 2026-12-07 00:00 UTC"
    assert doubt(-9, -1) == "expired on 2026-11-22 12:00 UTC"
    assert doubt(-9, 0) == "expired on 2026-11-23 12:00 UTC"
    assert doubt(2, 9) == "is not valid before 2026-11-25 12:00 UTC"
