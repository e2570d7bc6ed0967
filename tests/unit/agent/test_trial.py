# SPDX-License-Identifier: Apache-2.0
"""A change that can cut the host off: it stays once the core was reached, and harms nobody else."""

from typing import Any

import pytest

from cnsmo.agent.reconcile import OVER_SECONDS, TRIAL_SECONDS, Outcome
from cnsmo.model.errors import DriverError, Unavailable
from cnsmo.model.lifecycle import State
from tests.unit.agent.test_reconcile import Bench, bench, member, note, view  # noqa: F401

ROWS = [note("a"), member("a"), note("b"), member("b")]


def reached(patience: float) -> None:
    """The core answers."""
    assert patience > 0


def cut_off(_patience: float) -> None:
    """It does not."""
    raise Unavailable("no core answered")


def look(bench: Bench, reach: Any = reached) -> Outcome:  # noqa: F811
    return bench.agent.reconcile(view(ROWS), "web1", [], reach=reach)


def test_what_is_on_trial_stays_once_the_core_was_reached(bench: Bench) -> None:  # noqa: F811
    look(bench)
    bench.driver("a").trouble["trial"] = 30.0
    outcome = look(bench)
    assert (outcome.state, outcome.applied) == (State.READY, True)
    assert "confirm" in bench.driver("a").calls
    assert "confirm" not in bench.driver("b").calls


@pytest.mark.parametrize(
    ("reach", "why"), [(cut_off, "no core answered"), (None, "the core has not been asked yet")]
)
def test_until_then_it_is_in_force_for_nobody_and_the_reason_does_not_count_the_seconds(
    bench: Bench,  # noqa: F811
    reach: Any,
    why: str,
) -> None:
    look(bench)
    said = set()
    for left in (29.0, 28.0):
        bench.driver("a").trouble["trial"] = left
        outcome = look(bench, reach)
        assert (outcome.state, outcome.applied) == (State.CONFIGURING, False)
        assert outcome.again == TRIAL_SECONDS
        said.add(outcome.reason)
    assert said == {f"on trial until the core is reached, else the last good state returns: {why}"}
    assert "confirm" not in bench.driver("a").calls


def test_the_core_has_no_longer_than_the_trial_to_answer(bench: Bench) -> None:  # noqa: F811
    look(bench)
    bench.driver("a").trouble["trial"], bench.driver("b").trouble["trial"] = 9.0, 4.0
    asked: list[float] = []
    assert look(bench, asked.append).state is State.READY
    assert asked == [4.0]


@pytest.mark.parametrize("reach", [reached, cut_off])
def test_an_answer_that_comes_too_late_is_none(bench: Bench, reach: Any) -> None:  # noqa: F811
    """The driver has gone back: it is looked at anew, and nobody is told otherwise."""
    look(bench)
    driver = bench.driver("a")
    driver.trouble |= {"trial": 9.0, "in time": False}

    def late(patience: float) -> None:
        if reach is cut_off:
            driver.trouble.pop("trial")
        reach(patience)

    outcome = look(bench, late)
    assert (outcome.state, outcome.applied) == (State.CONFIGURING, False)
    assert outcome.reason.startswith("the trial is over: ")
    assert outcome.again == OVER_SECONDS


def test_what_was_seen_during_a_trial_is_not_believed_after_it(bench: Bench) -> None:  # noqa: F811
    look(bench)
    bench.driver("a").trouble["trial"] = 9.0
    look(bench, cut_off)
    bench.driver("a").trouble |= {"trial": None, "apply": DriverError("no answer from the core")}
    hinted = bench.agent.reconcile(view(ROWS), "web1", [], thorough=False, reach=reached)
    assert (hinted.state, hinted.reason) == (State.ERROR, "a: no answer from the core")


def test_a_trial_that_ends_while_it_is_looked_at_is_not_believed(
    bench: Bench,  # noqa: F811
) -> None:
    look(bench)
    bench.driver("a").trouble |= {"trial": 9.0, "gone back": True}
    outcome = look(bench, cut_off)
    assert outcome.reason == "the trial is over: the core did not answer in time"
    assert "confirm" not in bench.driver("a").calls


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (DriverError("no"), "no"),
        (OSError("disk on fire"), "unforeseen OSError: disk on fire"),
    ],
)
def test_a_driver_that_cannot_tell_or_confirm_is_an_error_of_its_unit_only(
    bench: Bench,  # noqa: F811
    trouble: Exception,
    said: str,
) -> None:
    look(bench)
    bench.driver("a").trouble["trial"] = trouble
    bench.driver("b").trouble["trial"] = 30.0
    outcome = look(bench)
    assert (outcome.state, outcome.applied) == (State.ERROR, False)
    assert outcome.reason == f"a: whether something is on trial cannot be told: {said}"
    assert "confirm" in bench.driver("b").calls
    bench.driver("a").trouble |= {"trial": 30.0, "confirm": trouble}
    outcome = look(bench)
    assert (outcome.state, outcome.applied) == (State.ERROR, False)
    assert outcome.reason == f"a: what is on trial cannot be confirmed: {said}"
    assert outcome.again is not None
