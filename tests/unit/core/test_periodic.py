# SPDX-License-Identifier: Apache-2.0
"""The periodic work of a core: what is due is done once, whatever becomes of some of it."""

import pytest
import sqlalchemy as sa

from cnsmo.core import periodic as module
from cnsmo.core.context import Core
from cnsmo.core.periodic import Periodic
from cnsmo.model.errors import Unavailable
from cnsmo.state.engine import transaction
from tests.eventually import eventually
from tests.unit.conftest import Operator


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


def all_is_due(core: Core) -> None:
    with transaction(core.store.engine) as connection:
        connection.execute(sa.text("UPDATE claims SET due_at = '2020-01-01 00:00:00'"))


class Watched(Periodic):
    """Writes down what it does, besides."""

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self.done: list[tuple[str, str]] = []
        self._works = {work: self._noting(work, do) for work, do in self._works.items()}

    def _noting(self, work, do):
        def noted(deployment: str) -> None:
            self.done.append((work, deployment))
            do(deployment)

        return noted


EVERYTHING = [
    ("broker", ""), ("ended", ""), ("health", "lab"), ("health", "shop"),
    ("purge", "lab"), ("purge", "shop"), ("removals", ""),
]  # fmt: skip


@pytest.fixture
def lab(operator: Operator) -> None:
    operator.deployment_create(name="lab")


def old(core: Core, _clock: Clock) -> Watched:
    """A core that runs long enough to judge."""
    made = Watched(core)
    made._began -= core.conf.core.down_after
    return made


def test_all_work_of_all_deployments_is_done_once_until_it_is_due_again(
    core: Core, clock: Clock, lab: None
) -> None:
    first, second = old(core, clock), old(core, clock)
    first.tick()
    second.tick()
    assert sorted(first.done) == EVERYTHING
    assert second.done == []
    all_is_due(core)
    second.tick()
    assert sorted(second.done) == EVERYTHING


def test_a_core_that_has_just_started_leaves_the_judging_to_others(
    core: Core, clock: Clock, lab: None
) -> None:
    young = Watched(core)
    young.tick()
    assert {work for work, _name in young.done} == {"purge", "removals", "ended", "broker"}
    elder = old(core, clock)
    elder.tick()
    assert sorted(elder.done) == [("health", "lab"), ("health", "shop")]


def test_a_core_that_stood_still_listens_again_before_it_judges(
    core: Core, clock: Clock, operator: Operator
) -> None:
    """Its process was stopped, or the database away: what others said meanwhile it did not hear."""
    periodic = old(core, clock)
    periodic.tick()
    all_is_due(core)
    clock.now += core.rules.late_after
    periodic.done.clear()
    periodic.tick()
    assert ("health", "shop") not in periodic.done
    assert periodic.listening == 0
    clock.now += core.rules.grace - 1
    periodic._looked = clock.now
    periodic.tick()
    assert ("health", "shop") not in periodic.done
    clock.now += 1
    periodic.tick()
    assert ("health", "shop") in periodic.done


@pytest.mark.parametrize("problem", [Unavailable("away"), RuntimeError("no such luck")])
def test_what_fails_does_not_hold_up_the_rest_and_is_due_again(
    core: Core, clock: Clock, lab: None, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    def fail(*_args: object) -> None:
        raise problem

    monkeypatch.setattr(core.silences, "picture", fail)
    periodic = old(core, clock)
    periodic.tick()
    assert sorted(periodic.done) == EVERYTHING
    all_is_due(core)
    periodic.tick()
    assert len(periodic.done) == 2 * len(EVERYTHING)


def test_old_tombstones_are_forgotten(core: Core, clock: Clock, operator: Operator) -> None:
    operator.join("web1").leave()
    periodic = old(core, clock)
    periodic.tick()
    assert not core.store.changes("shop", 1).snapshot
    with transaction(core.store.engine) as connection:
        connection.execute(sa.text("UPDATE resources SET updated_at = '2020-01-01 00:00:00'"))
    all_is_due(core)
    periodic.tick()
    assert core.store.changes("shop", 1).snapshot
    assert core.store.changes("shop").rows == []


def test_the_thread_outlives_what_it_did_not_foresee(
    core: Core, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    core.conf.set_override("health_interval", 0.1, "core")
    periodic, looks = Watched(core), []

    def fail(*args: object) -> None:
        looks.append(args)
        raise RuntimeError("no such luck")

    monkeypatch.setattr(periodic._claims, "provide", fail)
    periodic.start()
    eventually(lambda: len(looks) > 1)
    monkeypatch.undo()
    eventually(lambda: ("purge", "shop") in periodic.done)
    periodic.stop()


def test_what_a_core_claimed_and_did_not_begin_it_gives_back_when_it_stops(
    core: Core, clock: Clock, lab: None
) -> None:
    ending, next_one = old(core, clock), old(core, clock)
    first = ending._works["broker"]
    ending._works |= {"broker": lambda name: (first(name), ending._stop.set())}
    ending.tick()
    next_one.tick()
    assert sorted([*ending.done, *next_one.done]) == EVERYTHING
    assert next_one.done
