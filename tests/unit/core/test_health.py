# SPDX-License-Identifier: Apache-2.0
"""Health: who fell silent is said to be late, then down; nobody is said so too early."""

import contextlib
import datetime

import pytest
import sqlalchemy as sa

from cnsmo.core.context import Core
from cnsmo.core.health import Health
from cnsmo.model.errors import InvalidRequest, Unavailable
from cnsmo.model.lifecycle import GONE, State
from cnsmo.model.resource import AGENT
from cnsmo.state.engine import transaction
from tests.unit.conftest import Caller, Operator, Told

READY = {"service": "vpn", "state": "ready", "applied_revision": 1}
SHAKY = {"flaps": 1, "down_after": 60.0}


class Looks:
    """One look after the other, by a core that has listened for long enough."""

    def __init__(self, core: Core) -> None:
        self._health = Health(core)

    def __call__(self, listening: float = 3600) -> None:
        self._health.look("shop", listening)


@pytest.fixture
def look(core: Core) -> Looks:
    return Looks(core)


@pytest.fixture
def web1(operator: Operator) -> Caller:
    made = operator.join("web1")
    made.report(report=READY)
    return made


def ago(core: Core, column: str, host: str, seconds: float) -> None:
    """Make a moment of a host's agents that old."""
    moment = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds)
    with transaction(core.store.engine) as connection:
        connection.execute(
            sa.text(f"UPDATE agents SET {column} = :moment WHERE host = :host"),
            {"moment": moment.strftime("%Y-%m-%d %H:%M:%S.%f"), "host": host},
        )


def silence(core: Core, host: str, seconds: float) -> None:
    ago(core, "heartbeat_at", host, seconds)


def state(core: Core, host: str) -> str:
    row = core.store.view("shop").get(AGENT, f"{host}/vpn")
    assert row is not None
    return str(row.body["state"])


def reason(core: Core, host: str) -> str:
    row = core.store.view("shop").get(AGENT, f"{host}/vpn")
    assert row is not None
    return str(row.body["reason"])


def test_who_is_silent_for_too_long_is_down(
    core: Core, look: Looks, web1: Caller, told: Told, operator: Operator
) -> None:
    operator.join("db1")
    silence(core, "web1", 61)
    told.events.clear()
    look()
    assert state(core, "web1") == "down"
    assert state(core, "db1") == "joining"
    assert [(event.type, event.host) for event in told.events] == [
        ("agent.late", "web1"),
        ("agent.down", "web1"),
    ]
    assert told.events[1].message == "no heartbeat for 60 s; the data plane may well be working"


def test_late_is_an_event_and_no_revision(
    core: Core, look: Looks, web1: Caller, told: Told, operator: Operator
) -> None:
    head = core.store.deployment("shop").revision
    silence(core, "web1", 31)
    told.events.clear()
    for _again in range(2):
        look()
    assert told.types() == ["agent.late"]
    (agent,) = operator.host_list(deployment="shop")[0]["agents"]
    assert (agent["state"], agent["late"]) == ("ready", True)
    web1.heartbeat(beat={"applied": {"vpn": 1}})
    for _again in range(2):
        look()
    assert told.types() == ["agent.heard"]
    assert operator.host_list(deployment="shop")[0]["agents"][0]["late"] is False
    assert core.store.deployment("shop").revision == head


def test_down_is_said_once(core: Core, look: Looks, web1: Caller, told: Told) -> None:
    silence(core, "web1", 61)
    look()
    head = core.store.deployment("shop").revision
    told.events.clear()
    look()
    assert core.store.deployment("shop").revision == head
    assert not told.events


def test_all_that_are_down_are_told_in_one_revision(
    core: Core, look: Looks, operator: Operator
) -> None:
    for number in range(9):
        operator.join(f"web{number}")
    head = core.store.deployment("shop").revision
    for number in range(3):
        silence(core, f"web{number}", 61)
    look()
    assert core.store.deployment("shop").revision == head + 1
    assert [state(core, f"web{number}") for number in range(4)] == ["down"] * 3 + ["joining"]


def test_a_core_that_has_just_started_judges_nobody(core: Core, look: Looks, web1: Caller) -> None:
    silence(core, "web1", 3600)
    look(listening=core.conf.core.down_after - 1)
    assert state(core, "web1") == "ready"
    look(listening=core.conf.core.down_after)
    assert state(core, "web1") == "down"


def test_who_speaks_between_the_look_and_the_verdict_is_not_down(
    core: Core, look: Looks, web1: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    silence(core, "web1", 61)
    found = core.silences.picture("shop", 30)
    assert found is not None
    assert [agent.host for agent in found.agents] == ["web1"]
    monkeypatch.setattr(core.silences, "picture", lambda *_: found)
    web1.heartbeat(beat={"applied": {"vpn": 1}})
    look()
    assert state(core, "web1") == "ready"


def test_who_was_down_and_beats_is_asked_to_report_and_is_back(
    core: Core, look: Looks, web1: Caller
) -> None:
    silence(core, "web1", 61)
    look()
    assert web1.heartbeat(beat={"applied": {"vpn": 1}})["forgotten"] == ["vpn"]
    web1.report(report=READY)
    assert state(core, "web1") == "ready"
    assert web1.heartbeat(beat={"applied": {"vpn": 1}})["forgotten"] == []


def test_who_was_removed_is_not_down(
    core: Core, look: Looks, web1: Caller, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    silence(core, "web1", 61)
    found = core.silences.picture("shop", 30)
    monkeypatch.setattr(core.silences, "picture", lambda *_: found)
    operator.host_remove(deployment="shop", host="web1")
    look()
    assert core.store.view("shop").get(AGENT, "web1/vpn") is None


def test_a_deployment_that_is_gone_is_no_matter(core: Core, operator: Operator) -> None:
    Health(core).look("nowhere", 3600)


def test_when_many_fall_silent_at_once_the_core_suspects_itself_and_touches_nobody(
    core: Core, look: Looks, operator: Operator, told: Told
) -> None:
    hosts = [f"web{number}" for number in range(6)]
    callers = {host: operator.join(host) for host in hosts}
    head = core.store.deployment("shop").revision
    told.events.clear()
    for host in hosts[:3]:
        silence(core, host, 3600)
    for _again in range(2):
        look()
    (event,) = told.events
    assert event.type == "core.suspicious"
    assert event.message.startswith("3 of 6 hosts are silent at once")
    assert core.store.deployment("shop").revision == head
    assert operator.deployment_show(name="shop")["suspected_since"] is not None
    told.events.clear()
    for host in hosts[:2]:
        callers[host].heartbeat(beat={"applied": {"vpn": 1}})
    look()
    assert state(core, hosts[2]) == "joining", "it has time to return"
    with transaction(core.store.engine) as connection:
        connection.execute(sa.text("UPDATE deployments SET suspected_at = '2020-01-01 00:00:00'"))
    look()
    assert state(core, hosts[2]) == "down"
    assert told.types() == ["agent.heard", "agent.heard", "core.confident", "agent.down"]
    assert operator.deployment_show(name="shop")["suspected_since"] is None


def test_who_comes_and_goes_is_taken_back_only_after_a_time_without_a_gap(
    core: Core, look: Looks, web1: Caller
) -> None:
    for name, value in SHAKY.items():
        core.conf.set_override(name, value, "core")
    for _time in range(2):
        silence(core, "web1", 61)
        look()
        assert state(core, "web1") == "down"
        asked = web1.heartbeat(beat={"applied": {"vpn": 1}})["forgotten"]
        web1.report(report=READY)
    assert asked == [], "what it says is not waited for"
    assert state(core, "web1") == "down"
    assert reason(core, "web1").endswith("down 2 times lately: back once it is heard for 60 s")
    look()
    ago(core, "heard_since", "web1", 59)
    web1.report(report=READY)
    assert state(core, "web1") == "down"
    ago(core, "heard_since", "web1", 61)
    assert web1.heartbeat(beat={"applied": {"vpn": 1}})["forgotten"] == ["vpn"]
    web1.report(report=READY)
    assert state(core, "web1") == "ready"


def test_how_often_it_was_down_is_forgotten(core: Core, look: Looks, web1: Caller) -> None:
    core.conf.set_override("flaps", 1, "core")
    for _time in range(3):
        silence(core, "web1", 61)
        look()
        web1.report(report=READY)
        assert state(core, "web1") == "ready"
        ago(core, "downed_at", "web1", core.conf.core.flap_window + 1)


def now(seconds: float = 0) -> str:
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
    return moment.isoformat()


def heard(core: Core) -> float:
    return core.liveness.signs("shop")["web1", "vpn"].silent


def test_a_heartbeat_that_was_long_on_its_way_is_as_old_as_it_is(core: Core, web1: Caller) -> None:
    silence(core, "web1", 100)
    web1.heartbeat(beat={"applied": {"vpn": 1}, "made_at": now(-50)})
    assert 49 < heard(core) < 60
    web1.heartbeat(beat={"applied": {"vpn": 2}, "made_at": now()})
    assert heard(core) < 10
    web1.heartbeat(beat={"applied": {"vpn": 1}, "made_at": now(-50)})
    assert heard(core) < 10, "an older one that comes later takes nothing back"
    assert core.liveness.signs("shop")["web1", "vpn"].applied_revision == 2


@pytest.mark.parametrize(
    "moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-01-01T00:00:00"]
)
def test_a_time_that_makes_no_sense_does_no_harm(core: Core, web1: Caller, moment: str) -> None:
    with contextlib.suppress(InvalidRequest):
        web1.heartbeat(beat={"applied": {"vpn": 1}, "made_at": moment})
    with contextlib.suppress(InvalidRequest):
        web1.report(report={**READY, "made_at": moment})
    assert heard(core) < 60


def test_nobody_is_heard_in_the_future(core: Core, web1: Caller) -> None:
    web1.heartbeat(beat={"applied": {"vpn": 1}, "made_at": now(3600)})
    silenced = datetime.timedelta(seconds=1)
    with transaction(core.store.engine) as connection:
        stored = connection.scalar(sa.text("SELECT heartbeat_at FROM agents"))
    assert datetime.datetime.fromisoformat(stored) < datetime.datetime.now() + silenced  # noqa: DTZ005


def test_a_report_that_comes_after_a_later_one_does_not_count(core: Core, web1: Caller) -> None:
    web1.report(report={**READY, "state": "degraded", "reason": "new", "made_at": now()})
    with pytest.raises(Unavailable, match="a report that was made later is known"):
        web1.report(report={**READY, "made_at": now(-1)})
    assert state(core, "web1") == "degraded"
    web1.report(report={**READY, "made_at": now()})
    assert state(core, "web1") == "ready"


@pytest.mark.parametrize("said", ["configuring", "ready", "degraded", "error"])
def test_no_report_takes_anybody_out_of_anything(
    core: Core, web1: Caller, operator: Operator, said: str
) -> None:
    """Neither its own host nor another one is gone, and nobody's row but its own is changed."""
    operator.join("web2").report(report=READY)
    before = {row.name: row for row in core.store.view("shop")}
    web1.report(report={**READY, "state": said, "reason": "so it says"})
    view = core.store.view("shop")
    assert State(said) not in GONE
    assert view.gone == frozenset()
    changed = {row.name for row in view if before[row.name] != row}
    assert changed <= {"web1/vpn"}
    assert len(list(view)) == len(before)
