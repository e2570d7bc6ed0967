# SPDX-License-Identifier: Apache-2.0
"""In a large fleet a change is in force first, and looked at and proven a moment later."""

import time
from collections.abc import Iterable
from math import inf
from pathlib import Path
from typing import Any

import pytest

from cnsmo.agent import worker as module
from cnsmo.agent.pace import FEW_HOSTS, LONGEST_SECONDS, PutOff, pause
from cnsmo.agent.reconcile import Outcome
from cnsmo.agent.wakeup import Reason
from cnsmo.model.lifecycle import State
from cnsmo.model.resource import Row
from cnsmo.services.vpn.drivers.noop import NoopDriver
from tests.eventually import eventually
from tests.unit.agent.test_reconcile import Bench, bench, member, note, view  # noqa: F401
from tests.unit.agent.test_trial import reached
from tests.unit.agent.test_worker import Core, core, made, row  # noqa: F401

LATER = 60.0


def changed(text: str) -> list[Row]:
    return [note("a", text), member("a")]


def hint(bench: Bench, rows: Iterable[Row], later: float = LATER) -> Outcome:  # noqa: F811
    """What a round does that a hint began, in a fleet."""
    return bench.agent.reconcile(view(rows), "web1", [], False, reached, later)


@pytest.fixture
def tried(bench: Bench) -> Bench:  # noqa: F811
    """A change is on trial in a fleet."""
    bench.reconcile(*changed("old"))
    bench.driver("a").trouble["trial"] = 1000.0
    bench.driver("a").calls.clear()
    return bench


def test_few_hosts_wait_for_nothing_and_many_not_long() -> None:
    assert {pause(hosts) for hosts in range(FEW_HOSTS + 1)} == {0.0}
    assert all(0.7 <= pause(50) <= 1.3 for _ in range(100))
    assert all(pause(10_000) <= 1.3 * LONGEST_SECONDS for _ in range(100))
    assert len({pause(50) for _ in range(100)}) > 1


def test_it_is_put_off_once_until_it_is_done() -> None:
    put_off = PutOff()
    assert put_off.left == 0.0
    put_off.begin(60.0)
    put_off.begin(120.0)
    assert 0.0 < put_off.left <= 60.0
    put_off.end()
    assert put_off.left == 0.0


def test_a_change_on_trial_is_in_force_and_nothing_else_is_done_yet(tried: Bench) -> None:
    outcome = hint(tried, changed("new"))
    assert (outcome.untold, outcome.applied, outcome.state) == (True, False, State.CONFIGURING)
    assert tried.driver("a").text == "new"
    assert tried.driver("a").calls == ["check", "apply"]
    assert 0 < tried.agent.look_at - time.monotonic() <= LATER


def test_it_is_looked_at_and_proven_when_it_is_time(tried: Bench) -> None:
    hint(tried, changed("new"), later=0.05)
    eventually(lambda: tried.agent.look_at <= time.monotonic())
    outcome = tried.agent.reconcile(view(changed("new")), "web1", [], True, reached)
    assert (outcome.untold, outcome.applied, outcome.state) == (False, True, State.READY)
    assert tried.driver("a").calls[-2:] == ["observe", "confirm"]


def test_changes_that_keep_coming_do_not_put_it_off_further(tried: Bench) -> None:
    hint(tried, changed("new"), later=0.2)
    due = tried.agent.look_at
    assert hint(tried, changed("newer")).untold
    assert tried.agent.look_at == pytest.approx(due, abs=0.05)
    eventually(lambda: due <= time.monotonic())
    assert hint(tried, changed("newest")).applied


def test_it_takes_no_more_than_a_part_of_the_trial(tried: Bench) -> None:
    tried.driver("a").trouble["trial"] = 4.0
    hint(tried, changed("new"))
    assert tried.agent.look_at - time.monotonic() <= 1.0


def test_what_is_not_on_trial_is_told_at_once(tried: Bench) -> None:
    tried.driver("a").trouble.clear()
    outcome = hint(tried, changed("new"))
    assert (outcome.untold, outcome.applied) == (False, True)


def test_who_asks_now_hears_now(tried: Bench) -> None:
    hint(tried, changed("new"))
    assert tried.agent.reconcile(view(changed("new")), "web1", [], True, reached).applied


def test_the_core_hears_of_it_once_it_is_proven(
    core: Core,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "pause", lambda _hosts: LATER)
    beats: list[dict[str, int]] = []
    answer = core.heartbeat
    monkeypatch.setattr(core, "heartbeat", lambda it: beats.append(it.applied) or answer(it))
    monkeypatch.setattr(core, "knock", lambda _patience: None, raising=False)
    worker = made(core, tmp_path)
    worker.work({Reason.SYNC, Reason.REPORT})
    on_trial: dict[str, Any] = {"seconds": 30.0}
    monkeypatch.setattr(NoopDriver, "trial", lambda _driver: on_trial.get("seconds"))
    monkeypatch.setattr(NoopDriver, "confirm", lambda _driver: bool(on_trial.pop("seconds")))
    core.rows.append(row(4, "vpn", "backbone", {**core.rows[1].body, "mtu": 1300}))
    core.called.clear()
    beats.clear()
    worker.work({Reason.SYNC})
    assert (core.called, beats) == ([], [])
    assert worker.look_at < inf
    monkeypatch.setattr(time, "monotonic", lambda now=time.monotonic: now() + LATER)
    worker.look()
    assert beats[-1] == {"vpn": 4}
    assert core.called == []  # it was ready, and is
