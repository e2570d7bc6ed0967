# SPDX-License-Identifier: Apache-2.0
"""An agent works when there is something to do, comes back to what failed, and harms no other."""

import time
from math import inf
from typing import Any

import pytest

from cnsmo.model.errors import DriverError
from cnsmo.model.lifecycle import State
from cnsmo.services.base import Observation
from tests.unit.agent.test_reconcile import Bench, bench, member, note, row, view  # noqa: F401


def again(bench: Bench, *rows: Any, thorough: bool = False) -> list[str]:  # noqa: F811
    """What the driver is called for when the agent looks once more."""
    driver = bench.driver("a")
    driver.calls.clear()
    bench.agent.reconcile(view(rows), "web1", [], thorough)
    return driver.calls


def test_rows_that_change_nothing_here_cost_no_look(bench: Bench) -> None:  # noqa: F811
    rows = [note("a"), member("a")]
    assert bench.reconcile(*rows).state is State.READY
    assert again(bench, *rows, row("agent", "web2/notes", {"state": "ready"})) == []
    assert "apply" in again(bench, *rows, thorough=True)
    assert "apply" in again(bench, note("a", "other"), member("a"))


def test_a_driver_that_wants_to_look_again_is_asked_at_its_time_and_not_before(
    bench: Bench,  # noqa: F811
) -> None:
    rows = [note("a"), member("a")]
    assert bench.reconcile(*rows).again is None
    assert bench.agent.look_at == inf
    bench.driver("a").trouble["seen"] = Observation(again=500)
    before = time.monotonic()
    assert bench.reconcile(*rows).again == 500
    due = bench.agent.look_at
    assert before + 500 <= due <= time.monotonic() + 500
    assert again(bench, *rows) == []
    assert bench.agent.look_at == due, "a row that changes nothing does not put it off"


def test_what_failed_is_not_tried_at_each_row_that_changes_nothing(
    bench: Bench,  # noqa: F811
) -> None:
    rows = [note("a"), member("a")]
    bench.reconcile(*rows)
    bench.driver("a").trouble["apply"] = DriverError("no")
    failed = bench.reconcile(*rows)
    assert again(bench, *rows, row("agent", "web2/notes", {"state": "ready"})) == []
    assert bench.agent.reconcile(view(rows), "web1", [], thorough=False) == failed
    assert "apply" in again(bench, note("a", "other"), member("a"))


def test_drift_is_told_once(bench: Bench) -> None:  # noqa: F811
    rows = [note("a"), member("a")]
    bench.reconcile(*rows)
    bench.driver("a").text = "somebody else's"
    assert bench.reconcile(*rows).repaired
    assert not bench.agent.reconcile(view(rows), "web1", [], thorough=False).repaired


def test_what_failed_is_tried_again_soon_and_then_less_often(bench: Bench) -> None:  # noqa: F811
    rows = [note("a"), member("a")]
    bench.reconcile(*rows)
    bench.driver("a").trouble["apply"] = DriverError("no")
    waits = [bench.reconcile(*rows).again or 0.0 for _ in range(8)]
    assert 0 < waits[0] <= 2
    assert 30 <= waits[-1] <= 60
    bench.driver("a").trouble.clear()
    assert bench.reconcile(*rows).again is None


def test_a_driver_that_cannot_work_here_does_not_replace_one_that_does(
    bench: Bench,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench.reconcile(note("a"), member("a"))
    old = bench.driver("a")
    changed = note("a", driver="missing")
    outcome = bench.reconcile(changed, member("a"))
    assert outcome.state is State.ERROR
    assert "remove" not in old.calls
    bench.reconcile(note("a", driver="new"), member("a"))
    assert "remove" in old.calls


def test_a_plugin_that_fails_is_an_error_of_its_service_only(
    bench: Bench,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(bench.agent.service, "compile", broken)
    outcome = bench.reconcile(note("a"), member("a"))
    assert (outcome.state, outcome.applied) == (State.ERROR, False)
    assert "unforeseen ZeroDivisionError: oops" in outcome.reason
    monkeypatch.setattr(bench.agent.service, "units", broken)
    assert bench.announce(note("a")).refused == ["unforeseen ZeroDivisionError: oops"]


def test_a_missing_driver_is_named(bench: Bench) -> None:  # noqa: F811
    assert "missing" in bench.reconcile(note("a", driver="missing"), member("a")).reason
