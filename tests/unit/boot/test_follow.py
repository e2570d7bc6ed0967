# SPDX-License-Identifier: Apache-2.0
"""A core that follows its stack: what is applied, what is answered, what is tried again."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from cnsmo.boot import follow
from cnsmo.boot.heat import Seat
from cnsmo.boot.machine import Machine
from cnsmo.model.errors import CnsmoError, InvalidRequest, NotFound, Unavailable
from cnsmo.services.base import Completed
from tests.unit.boot.pretend import PretendSystem

PASSWORD = "pass-3271be39b0fd"
SEAT = {
    "auth_url": "http://192.0.2.1:5000/v3",
    "user_id": "u-1",
    "password": PASSWORD,
    "project_id": "p-1",
    "stack_id": "shop/s-1",
    "resource_name": "follower",
    "region_name": None,
}
APPLY = "/opt/cnsmo/bin/cnsmo-manage apply -"
DOCUMENT = '{"deployment": "shop"}'


class PretendHeat:
    """What is declared, and what it was answered."""

    metadata_: ClassVar[dict[str, Any]] = {}
    heard: ClassVar[list[tuple[str, dict[str, Any]]]] = []
    trouble: ClassVar[list[CnsmoError]] = []

    def __init__(self, seat: Seat) -> None:
        self.seat = seat

    def metadata(self) -> dict[str, Any]:
        return self.metadata_

    def signal(self, values: Mapping[str, Any]) -> None:
        if self.trouble:
            raise self.trouble.pop()
        self.heard.append((self.seat.resource_name, dict(values)))


def entry(ident: str, text: str = DOCUMENT, **more: Any) -> dict[str, Any]:
    reply = {f"deploy_{name}": value for name, value in SEAT.items()}
    inputs = {"within": 0, **reply, "deploy_resource_name": "deployment", **more}
    listed = [{"name": name, "type": "String", "value": it} for name, it in inputs.items()]
    return {"id": ident, "group": "cnsmo", "config": text, "inputs": listed}


@pytest.fixture
def declares(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    monkeypatch.setattr(follow, "Heat", PretendHeat)
    for name, empty in (("metadata_", {}), ("heard", []), ("trouble", [])):
        monkeypatch.setattr(PretendHeat, name, empty)

    def tell(*entries: dict[str, Any]) -> None:
        PretendHeat.metadata_["deployments"] = list(entries)

    return tell


@pytest.fixture
def core(machine: Machine) -> Machine:
    """One that follows a stack."""
    machine.write(follow.SEAT, json.dumps(SEAT))
    return machine


def ended(code: int, out: str = "", err: str = "") -> Completed:
    return Completed((), code, out, err)


def applies(system: PretendSystem) -> list[str]:
    return [line for line in system.ran if line.startswith(APPLY)]


def test_what_the_user_data_brought_is_the_cores_own_and_its_unit_runs(
    machine: Machine, system: PretendSystem
) -> None:
    machine.write(follow.GIVEN, json.dumps(SEAT))
    follow.begin(machine)
    assert not machine.path(follow.GIVEN).exists()
    there = machine.path(follow.SEAT)
    assert (json.loads(there.read_text()), there.stat().st_mode & 0o777) == (SEAT, 0o600)
    assert "systemctl enable --now cnsmo-follow.service" in system.ran
    system.ran.clear()
    follow.begin(machine)
    assert "systemctl enable --now cnsmo-follow.service" in system.ran, "at a second boot, too"


def test_who_is_of_no_stack_follows_none(machine: Machine, system: PretendSystem) -> None:
    follow.begin(machine)
    assert system.ran == []


def test_a_document_is_applied_and_answered_once(
    core: Machine, system: PretendSystem, declares: Callable[..., None]
) -> None:
    system.answers[APPLY] = "Applied as revision 7.\n"
    declares(entry("c-1"), {"id": "x", "group": "script", "config": "reboot"})
    follow.Follower(core).look()
    told = {"deploy_status_code": 0, "deploy_stdout": "Applied as revision 7.\n"}
    assert PretendHeat.heard == [("deployment", told)]
    assert system.stdin[APPLY] == DOCUMENT
    follow.Follower(core).look()
    assert len(applies(system)) == 1, "neither after a restart"
    declares(entry("c-2", '{"deployment": "shop", "vpn": {}}'))
    follow.Follower(core).look()
    assert system.stdin[APPLY] == '{"deployment": "shop", "vpn": {}}'
    assert json.loads(core.path(follow.DONE).read_text()) == ["c-2"], "what is gone is forgotten"
    assert not [line for line in system.ran if PASSWORD in line]


def test_it_waits_for_the_hosts_where_that_is_asked_for(
    core: Machine, system: PretendSystem, declares: Callable[..., None]
) -> None:
    declares(entry("c-1", within="90.0"))
    follow.Follower(core).look()
    assert applies(system) == [f"{APPLY} --wait 90s"]


@pytest.mark.parametrize("code", [1, 3, 4, 6, 9])
def test_what_is_refused_is_told_with_the_reason(
    core: Machine, system: PretendSystem, declares: Callable[..., None], code: int
) -> None:
    system.answers[APPLY] = ended(code, "half a plan", "cnsmo-manage: no such deployment\n")
    declares(entry("c-1"))
    follow.Follower(core).look()
    follow.Follower(core).look()
    assert PretendHeat.heard == [("deployment", {"refused": "cnsmo-manage: no such deployment"})]


def test_while_the_core_is_away_nobody_is_answered(
    core: Machine, system: PretendSystem, declares: Callable[..., None]
) -> None:
    system.answers[APPLY] = ended(7, "", "no core answers")
    declares(entry("c-1"))
    follower = follow.Follower(core)
    with pytest.raises(Unavailable, match="waits for the core: no core answers"):
        follower.look()
    assert PretendHeat.heard == []
    system.answers[APPLY] = "done"
    follower.look()
    assert [told["deploy_status_code"] for _name, told in PretendHeat.heard] == [0]


def test_somebody_else_may_change_the_deployment_meanwhile(
    core: Machine, system: PretendSystem, declares: Callable[..., None]
) -> None:
    system.answers[APPLY] = ended(5, "", "somebody else changed it")
    declares(entry("c-1"))
    follow.Follower(core).look()
    assert len(applies(system)) == follow.TRIES
    assert PretendHeat.heard[0][1] == {"refused": "somebody else changed it"}


def test_an_answer_that_is_not_heard_is_given_again(
    core: Machine, system: PretendSystem, declares: Callable[..., None]
) -> None:
    PretendHeat.trouble.append(Unavailable("192.0.2.1 does not answer"))
    declares(entry("c-1"))
    follower = follow.Follower(core)
    with pytest.raises(Unavailable):
        follower.look()
    follower.look()
    assert len(PretendHeat.heard) == 1
    assert len(applies(system)) == 2, "it changes nothing the second time"


def test_who_does_not_wait_any_more_is_not_asked_again(
    core: Machine, system: PretendSystem, declares: Callable[..., None]
) -> None:
    PretendHeat.trouble.append(NotFound("192.0.2.1 has no such resource"))
    declares(entry("c-1"))
    follower = follow.Follower(core)
    follower.look()
    follower.look()
    assert len(applies(system)) == 1


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"password": ""}, "has no password"),
        ({"auth_url": "file:///etc/shadow"}, "no http"),
        ({"auth_url": None, "stack_id": None}, "has no auth_url, stack_id"),
    ],
)
def test_what_is_no_resource_of_heats_is_said_without_a_secret(
    core: Machine, wrong: dict[str, Any], told: str
) -> None:
    core.write(follow.SEAT, json.dumps({**SEAT, **wrong}))
    with pytest.raises(InvalidRequest, match=told) as raised:
        follow.Follower(core)
    assert PASSWORD not in str(raised.value)


def test_it_carries_on_after_trouble_and_says_each_once(
    core: Machine,
    declares: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trouble = iter([Unavailable("no way"), Unavailable("no way"), None, KeyboardInterrupt()])

    def look(_self: follow.Follower) -> None:
        exc = next(trouble)
        if exc is not None:
            raise exc

    monkeypatch.setattr(follow.Follower, "look", look)
    monkeypatch.setattr(follow, "PULSE", 0.0)
    with pytest.raises(KeyboardInterrupt):
        follow.run(core)
    said = capsys.readouterr().err
    assert said.count("no way") == 1
    assert "followed again" in said


def test_an_empty_document_is_none(machine: Machine, system: PretendSystem) -> None:
    from cnsmo.boot import core

    machine.write(core.DOCUMENT, "{}")
    core._apply(machine)
    assert system.ran == []


def test_a_core_that_boots_follows_once_it_is_one(
    machine: Machine, system: PretendSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cnsmo.boot import core
    from cnsmo.cmd import boot

    def booted(*_how: Any) -> dict[str, Any]:
        assert system.ran == [], "not before"
        return {"core": "https://192.0.2.7:8743"}

    monkeypatch.setattr(core, "boot", booted)
    machine.write(follow.GIVEN, json.dumps(SEAT))
    given = machine.path(Path("/etc/cnsmo/boot.json"))
    given.write_text('{"role": "core"}')
    assert boot._boot(given, machine) == {"core": "https://192.0.2.7:8743"}
    assert "systemctl enable --now cnsmo-follow.service" in system.ran
