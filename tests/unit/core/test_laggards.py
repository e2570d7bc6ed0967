# SPDX-License-Identifier: Apache-2.0
"""Who says that it works and does not follow holds nobody up, and is told by name."""

import datetime

import pytest
import sqlalchemy as sa

from cnsmo.core import laggards
from cnsmo.core.context import Core
from cnsmo.core.health import Health
from cnsmo.model.resource import HOST, renewal_kind
from cnsmo.services import registry
from cnsmo.state import liveness
from cnsmo.state.engine import transaction
from cnsmo.state.tables import RESOURCES
from tests.unit.conftest import Caller, Operator, Told

DOCUMENT = "deployment: shop\nvpn: {backbone: {cidr: 10.66.0.0/16, driver: noop}}\n"
NAMES = ("edge1", "web1", "web2")


@pytest.fixture
def hosts(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> dict[str, Caller]:
    monkeypatch.setattr(liveness, "DUE_SECONDS", 0.0)
    made = {name: operator.join(name) for name in NAMES}
    operator.apply(document=DOCUMENT, base_revision=None)
    for name in NAMES:
        announce(made[name])
        says(made[name], head(operator.core))
    return made


def head(core: Core) -> int:
    return core.store.deployment("shop").revision


def announce(host: Caller, **more: int) -> None:
    body = {"driver": "noop", **more}
    host.announce(announcement={"service": "vpn", "instance": "backbone", "body": body})


def says(host: Caller, applied: int) -> None:
    host.report(report={"service": "vpn", "state": "ready", "applied_revision": applied})


def beats(host: Caller, applied: int) -> int:
    """What all others have applied, as it is told."""
    answer = host.heartbeat(beat={"applied": {"vpn": applied}})
    return int(answer["confirmed"].get("vpn", 0))


def pass_time(core: Core) -> None:
    """All that is written by now was written long ago."""
    with transaction(core.store.engine) as connection:
        rows = connection.execute(sa.select(RESOURCES.c.updated_at)).scalars()
        long_ago = min(rows) - datetime.timedelta(days=1)
        connection.execute(sa.update(RESOURCES).values(updated_at=long_ago))


@pytest.mark.parametrize("lie", [0, 1])
def test_who_does_not_follow_is_not_waited_for_for_ever(
    core: Core, operator: Operator, hosts: dict[str, Caller], lie: int
) -> None:
    beats(hosts["edge1"], lie)
    newest = head(core)
    beats(hosts["web2"], newest)
    assert beats(hosts["web1"], newest) == lie, "it may be busy"
    pass_time(core)
    assert beats(hosts["web1"], newest) == newest


def test_who_follows_what_is_old_is_waited_for_what_is_new(
    core: Core, operator: Operator, hosts: dict[str, Caller]
) -> None:
    pass_time(core)
    old = head(core)
    operator.apply(document=DOCUMENT.replace("noop", "noop, keepalive: 9"), base_revision=None)
    assert head(core) > old
    for name in ("web1", "web2"):
        beats(hosts[name], head(core))
    assert beats(hosts["edge1"], old) == old


def test_it_is_degraded_to_operators_and_an_event_once(
    core: Core, operator: Operator, hosts: dict[str, Caller], told: Told
) -> None:
    beats(hosts["edge1"], 1)
    for name in ("web1", "web2"):
        beats(hosts[name], head(core))
    pass_time(core)
    told.types()
    health = Health(core)
    for _again in range(2):
        health.look("shop", listening=3600)
    (event,) = told.events
    assert (event.type, event.host, event.service) == ("agent.behind", "edge1", "vpn")
    shown = {
        host["name"]: (host["agents"][0]["state"], host["agents"][0]["reason"])
        for host in operator.host_list(deployment="shop")
    }
    why = f"it has not applied revision {head(core)} for 180 s; others do not wait"
    assert shown == {"edge1": ("degraded", why), "web1": ("ready", ""), "web2": ("ready", "")}
    told.types()
    beats(hosts["edge1"], head(core))
    health.look("shop", listening=3600)
    assert told.types() == []
    assert operator.host_list(deployment="shop")[0]["agents"][0]["state"] == "ready"


@pytest.mark.parametrize("applied", [2**62, 10**6])
def test_nobody_has_applied_what_is_not_written(
    core: Core, operator: Operator, hosts: dict[str, Caller], applied: int
) -> None:
    for name in NAMES:
        beats(hosts[name], applied)
    assert beats(hosts["web1"], applied) == head(core)
    says(hosts["web1"], applied)
    (shown,) = (it for it in operator.host_list(deployment="shop") if it["name"] == "web1")
    assert shown["agents"][0]["applied_revision"] == head(core)


# keys, one host after the other


def generation(core: Core, host: str) -> int:
    (unit,) = registry.service("vpn").units(core.store.view("shop"), host)
    return int(unit.options["generation"])


def test_whose_turn_lasts_too_long_is_passed_over(
    core: Core,
    operator: Operator,
    hosts: dict[str, Caller],
    told: Told,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(laggards.time, "monotonic", lambda: clock[0])
    looking = laggards.Laggards(core)
    operator.renew(deployment="shop", service="vpn", instance="backbone")

    def wait(seconds: float) -> list[int]:
        looking.look("shop")
        clock[0] += seconds
        looking.look("shop")
        return [generation(core, name) for name in NAMES]

    assert wait(170) == [1, 0, 0]
    told.types()
    assert wait(20) == [1, 1, 0]
    assert ("agent.behind", "edge1") in [(event.type, event.host) for event in told.events]
    announce(hosts["web1"], generation=1)
    assert wait(170) == [1, 1, 1]
    announce(hosts["web2"], generation=1)
    assert wait(1000) == [1, 1, 1]
    row = core.store.view("shop").get(renewal_kind("vpn"), "backbone")
    assert row is not None
    assert row.body == {"generation": 1, "skipped": ["edge1"]}


def test_each_command_gives_everybody_its_turn_anew(
    core: Core, operator: Operator, hosts: dict[str, Caller], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(laggards.time, "monotonic", lambda: clock[0])
    looking = laggards.Laggards(core)
    operator.renew(deployment="shop", service="vpn", instance="backbone")
    for _hosts in range(5):
        looking.look("shop")
        clock[0] += 200
    assert [generation(core, name) for name in NAMES] == [1, 1, 1]
    operator.renew(deployment="shop", service="vpn", instance="backbone")
    looking.look("shop")
    assert [generation(core, name) for name in NAMES] == [2, 0, 0]


def test_who_flips_what_it_announces_gets_no_more_time(
    core: Core, operator: Operator, hosts: dict[str, Caller], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(laggards.time, "monotonic", lambda: clock[0])
    looking = laggards.Laggards(core)
    operator.renew(deployment="shop", service="vpn", instance="backbone")
    for turn in range(4):
        looking.look("shop")
        clock[0] += 61
        hosts["edge1"].facts(facts={"mtu": 1400 + turn})
        hosts["edge1"].withdraw(service="vpn", instance="backbone")
        announce(hosts["edge1"])
    looking.look("shop")
    assert generation(core, "web1") == 1


def test_hosts_are_listed_in_a_time_that_grows_with_their_number(
    core: Core, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NAMES:
        operator.join(name)
    walked: list[str] = []
    view = core.store.view("shop")
    rows = type(view).rows

    def counted(self: object, kind: str) -> object:
        walked.append(kind)
        return rows(self, kind)  # type: ignore[arg-type]

    monkeypatch.setattr(type(view), "rows", counted)
    assert len(operator.host_list(deployment="shop")) == 3
    assert sorted(walked) == ["agent", HOST]
