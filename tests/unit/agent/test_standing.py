# SPDX-License-Identifier: Apache-2.0
"""How services stand, written by the worker and read by others."""

import threading
from collections.abc import Callable

import pytest

from cnsmo.agent import standing
from cnsmo.agent.reconcile import Outcome
from cnsmo.agent.standing import Standing
from cnsmo.agent.wakeup import Reason, Wakeup
from cnsmo.model.lifecycle import State
from cnsmo.services.loadbalancer.service import LoadBalancerService

SERVICE = LoadBalancerService()


def outcome(sessions: int) -> Outcome:
    return Outcome(State.READY, "", {"www": {"sessions": sessions}}, applied=True)


def seen(board: Standing) -> list[int]:
    return [stand.outcome.observation["www"]["sessions"] for stand in board.read()]


@pytest.fixture
def wakeup() -> Wakeup:
    return Wakeup()


@pytest.fixture
def board(wakeup: Wakeup) -> Standing:
    made = Standing(wakeup)
    made.note(SERVICE, outcome(1), 7)
    return made


def test_a_reader_waits_for_what_the_worker_sees_now(
    board: Standing, wakeup: Wakeup, thread: Callable[..., threading.Thread]
) -> None:
    def work() -> None:
        assert wakeup.take() == {Reason.FIGURES}
        board.note(SERVICE, outcome(2), 7)
        board.looked()

    thread(work)
    assert seen(board) == [2]


def test_a_reader_of_a_busy_worker_gets_what_it_saw_last(
    board: Standing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing, "PATIENCE", 0.05)
    assert seen(board) == [1]
    assert board.read()[0].applied_revision == 7


def test_what_was_seen_just_now_is_not_looked_at_again(
    board: Standing, wakeup: Wakeup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing, "FRESH_SECONDS", 600.0)
    board.looked()
    assert seen(board) == [1]
    assert wakeup.take(0) == set()
