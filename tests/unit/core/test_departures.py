# SPDX-License-Identifier: Apache-2.0
"""Hosts that come and go are removed when they are gone; nobody is because the core is cut off."""

from types import SimpleNamespace

import pytest

from cnsmo.core import departures as module
from cnsmo.core.context import Core
from cnsmo.core.departures import Departures
from cnsmo.model.audit import AuditQuery
from cnsmo.model.resource import HOST
from tests.unit.conftest import Caller, Operator
from tests.unit.core.test_health import READY, silence

GONE = 600.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The monotonic clock of a core."""
    made = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: made.now))
    return made


@pytest.fixture
def departures(core: Core, clock: SimpleNamespace) -> Departures:
    """Of a core that has heard of somebody for long enough, once it has looked."""
    made = Departures(core)
    made.listen()
    clock.now += GONE
    return made


def comes(operator: Operator, name: str, ephemeral: bool) -> Caller:
    made = operator.join(name, ephemeral=ephemeral)
    made.report(report=READY)
    return made


@pytest.fixture(autouse=True)
def hosts(operator: Operator) -> None:
    """One that stays, and two that come and go."""
    comes(operator, "db1", ephemeral=False)
    comes(operator, "web1", ephemeral=True)
    comes(operator, "web2", ephemeral=True)


def look(departures: Departures, listening: float = GONE) -> None:
    departures.listen()
    departures.look("shop", listening)


def here(core: Core) -> set[str]:
    return {row.name for row in core.store.view("shop").rows(HOST)}


def test_who_comes_and_goes_and_is_gone_is_removed(core: Core, departures: Departures) -> None:
    silence(core, "web1", GONE + 1)
    look(departures)
    assert here(core) == {"db1", "web2"}
    line = core.trail.page("shop", AuditQuery()).lines[0]
    assert (line.role, line.action) == ("core", "gone")


def test_who_is_to_stay_stays(core: Core, departures: Departures) -> None:
    silence(core, "db1", GONE * 10)
    look(departures)
    assert here(core) == {"db1", "web1", "web2"}


def test_who_was_heard_lately_stays(core: Core, departures: Departures) -> None:
    silence(core, "web1", GONE - 10)
    look(departures)
    assert here(core) == {"db1", "web1", "web2"}


def test_a_core_that_hears_nobody_removes_nobody(core: Core, departures: Departures) -> None:
    for name in ("db1", "web1", "web2"):
        silence(core, name, GONE + 1)
    look(departures)
    assert here(core) == {"db1", "web1", "web2"}


def test_a_core_that_was_cut_off_waits_as_long_as_for_somebody_who_is_gone(
    core: Core, departures: Departures, clock: SimpleNamespace
) -> None:
    for name in ("db1", "web1", "web2"):
        silence(core, name, GONE + 1)
    look(departures)
    silence(core, "db1", 0)  # the first that is heard again
    look(departures)
    clock.now += GONE - 1
    look(departures)
    assert here(core) == {"db1", "web1", "web2"}
    clock.now += 1
    look(departures)
    assert here(core) == {"db1"}


def test_a_core_that_has_just_started_removes_nobody(core: Core, clock: SimpleNamespace) -> None:
    silence(core, "web1", GONE + 1)
    look(Departures(core))
    assert here(core) == {"db1", "web1", "web2"}


def test_a_core_that_could_not_look_for_a_while_removes_nobody(
    core: Core, departures: Departures
) -> None:
    silence(core, "web1", GONE + 1)
    look(departures, listening=GONE - 1)
    assert here(core) == {"db1", "web1", "web2"}


def test_who_speaks_between_the_look_and_the_removal_stays(
    core: Core, departures: Departures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core.liveness, "vanished", lambda *_asked: ["web1"])
    look(departures)
    assert here(core) == {"db1", "web1", "web2"}
