# SPDX-License-Identifier: Apache-2.0
"""Health: who fell silent is said to be down; nobody is said so too early."""

import datetime

import pytest
import sqlalchemy as sa

from cnsmo.core import health as module
from cnsmo.core.context import Core
from cnsmo.core.health import Health
from cnsmo.model.resource import AGENT
from cnsmo.state.engine import transaction
from tests.eventually import eventually
from tests.unit.conftest import Caller, Operator, Told

READY = {"service": "vpn", "state": "ready", "applied_revision": 1}


class Clock:
    """The monotonic clock of a core."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


@pytest.fixture
def health(core: Core, clock: Clock) -> Health:
    """Of a core that runs long enough to judge."""
    made = Health(core)
    clock.now += core.conf.core.down_after
    return made


@pytest.fixture
def web1(operator: Operator) -> Caller:
    made = operator.join("web1")
    made.report(report=READY)
    return made


def silence(core: Core, host: str, seconds: float) -> None:
    """Make a host's last sign of life that old."""
    moment = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds)
    with transaction(core.store.engine) as connection:
        connection.execute(
            sa.text("UPDATE agents SET heartbeat_at = :moment WHERE host = :host"),
            {"moment": moment.strftime("%Y-%m-%d %H:%M:%S.%f"), "host": host},
        )


def state(core: Core, host: str) -> str:
    row = core.store.view("shop").get(AGENT, f"{host}/vpn")
    assert row is not None
    return str(row.body["state"])


def test_who_is_silent_for_too_long_is_down(
    core: Core, health: Health, web1: Caller, told: Told, operator: Operator
) -> None:
    operator.join("db1")
    silence(core, "web1", 61)
    told.events.clear()
    health.look()
    assert state(core, "web1") == "down"
    assert state(core, "db1") == "joining"
    (event,) = told.events
    assert (event.type, event.host) == ("agent.down", "web1")
    assert event.message == "no heartbeat for 60 s; the data plane may well be working"


def test_down_is_said_once(core: Core, health: Health, web1: Caller, told: Told) -> None:
    silence(core, "web1", 61)
    health.look()
    head = core.store.deployment("shop").revision
    told.events.clear()
    health.look()
    assert core.store.deployment("shop").revision == head
    assert not told.events


def test_who_was_heard_lately_is_not_down(core: Core, health: Health, web1: Caller) -> None:
    silence(core, "web1", 55)
    health.look()
    assert state(core, "web1") == "ready"


def test_a_core_that_has_just_started_judges_nobody(core: Core, clock: Clock, web1: Caller) -> None:
    silence(core, "web1", 3600)
    young = Health(core)
    clock.now += core.conf.core.down_after - 1
    young.look()
    assert state(core, "web1") == "ready"
    clock.now += 1
    young.look()
    assert state(core, "web1") == "down"


def test_who_speaks_between_the_look_and_the_verdict_is_not_down(
    core: Core, health: Health, web1: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    silence(core, "web1", 61)
    found = core.liveness.silent(core.alive_within)
    assert found == [("shop", "web1", "vpn")]
    monkeypatch.setattr(core.liveness, "silent", lambda _before: found)
    web1.heartbeat(beat={"applied": {"vpn": 1}})
    health.look()
    assert state(core, "web1") == "ready"


def test_who_was_down_and_beats_is_asked_to_report_and_is_back(
    core: Core, health: Health, web1: Caller
) -> None:
    silence(core, "web1", 61)
    health.look()
    assert web1.heartbeat(beat={"applied": {"vpn": 1}})["forgotten"] == ["vpn"]
    web1.report(report=READY)
    assert state(core, "web1") == "ready"
    assert web1.heartbeat(beat={"applied": {"vpn": 1}})["forgotten"] == []


def test_who_was_removed_is_not_down(
    core: Core, health: Health, web1: Caller, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    silence(core, "web1", 61)
    found = core.liveness.silent(core.alive_within)
    monkeypatch.setattr(core.liveness, "silent", lambda _before: found)
    operator.host_remove(deployment="shop", host="web1")
    health.look()
    assert core.store.view("shop").get(AGENT, "web1/vpn") is None


def test_one_deployment_that_is_gone_does_not_hide_another(
    core: Core, health: Health, web1: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    silence(core, "web1", 61)
    found = [("gone", "a", "vpn"), *core.liveness.silent(core.alive_within)]
    monkeypatch.setattr(core.liveness, "silent", lambda _before: found)
    health.look()
    assert state(core, "web1") == "down"


def test_old_tombstones_are_forgotten(core: Core, health: Health, web1: Caller) -> None:
    web1.leave()
    health.look()
    assert not core.store.changes("shop", 1).snapshot
    with transaction(core.store.engine) as connection:
        connection.execute(sa.text("UPDATE resources SET updated_at = '2020-01-01 00:00:00'"))
    health.look()
    assert core.store.changes("shop", 1).snapshot
    assert core.store.changes("shop").rows == []


def test_the_thread_outlives_what_it_did_not_foresee(
    core: Core, web1: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    core.conf.set_override("health_interval", 0.1, "core")
    core.conf.set_override("down_after", 0.5, "core")
    looks = []

    def fail(before: datetime.timedelta) -> list[tuple[str, str, str]]:
        looks.append(before)
        raise RuntimeError("no such luck")

    health = Health(core)
    monkeypatch.setattr(core.liveness, "silent", fail)
    health.start()
    eventually(lambda: len(looks) > 1)
    monkeypatch.undo()
    silence(core, "web1", 61)
    eventually(lambda: state(core, "web1") == "down")
    health.stop()
