# SPDX-License-Identifier: Apache-2.0
"""A change that can cut the host off: it stays once the core was reached, and harms nobody else."""

from typing import Any

import pytest

from cnsmo.agent.reconcile import TRIAL_SECONDS, Outcome
from cnsmo.model.errors import DriverError, Unavailable
from cnsmo.model.lifecycle import State
from tests.unit.agent.test_reconcile import Bench, bench, member, note, view  # noqa: F401

ROWS = [note("a"), member("a"), note("b"), member("b")]


def reached() -> None:
    """The core answers."""


def cut_off() -> None:
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
