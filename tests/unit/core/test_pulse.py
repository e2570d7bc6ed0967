# SPDX-License-Identifier: Apache-2.0
"""Beats that arrive together are answered together, each with its own answer."""

import threading
import time
from collections.abc import Sequence
from concurrent import futures

import pytest

from cnsmo.core import pulse
from cnsmo.core.pulse import MOST, Pulse
from cnsmo.model.errors import Removed, Unavailable


class Noting:
    """Answers numbers with their doubles; the first time only when it is let go."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun = threading.Event()
        self.go = threading.Event()

    def __call__(self, numbers: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(numbers))
        self.begun.set()
        assert self.go.wait(30)
        return [Removed(str(it)) if it < 0 else 2 * it for it in numbers]


@pytest.fixture
def noting() -> Noting:
    return Noting()


def asked(noting: Noting, numbers: Sequence[int]) -> list[int | BaseException]:
    """All of them asked while the first is being noted."""
    made = Pulse(noting)
    with futures.ThreadPoolExecutor(len(numbers)) as pool:
        first = pool.submit(made.ask, numbers[0])
        assert noting.begun.wait(30)
        rest = [pool.submit(made.ask, it) for it in numbers[1:]]
        until = time.monotonic() + 30
        while len(made._waiting) < len(rest) and time.monotonic() < until:
            time.sleep(0.001)
        noting.go.set()
        return [it.exception(30) or it.result() for it in [first, *rest]]


def test_one_that_comes_alone_does_not_wait(
    noting: Noting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "GATHER_SECONDS", 3600.0)
    noting.go.set()
    assert Pulse(noting).ask(4) == 8


def test_those_that_come_meanwhile_are_noted_together(noting: Noting) -> None:
    assert asked(noting, range(20)) == [2 * it for it in range(20)]
    assert [len(batch) for batch in noting.batches] == [1, 19]


def test_enough_do_not_wait_for_more(noting: Noting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "GATHER_SECONDS", 3600.0)
    assert asked(noting, range(2 * MOST + 1)) == [2 * it for it in range(2 * MOST + 1)]
    assert [len(batch) for batch in noting.batches] == [1, MOST, MOST]


def test_an_error_is_for_who_asked_that(noting: Noting) -> None:
    good, bad, best = asked(noting, [1, -2, 3])
    assert (good, best) == (2, 6)
    assert isinstance(bad, Removed)


def test_what_fails_for_all_is_told_to_all_and_the_next_are_noted() -> None:
    failing = [True]

    def note(numbers: Sequence[int]) -> list[int]:
        if failing:
            raise Unavailable("the database does not answer")
        return [2 * it for it in numbers]

    made = Pulse(note)
    with futures.ThreadPoolExecutor(5) as pool:
        found = [it.exception(30) for it in [pool.submit(made.ask, it) for it in range(5)]]
    assert [type(it) for it in found] == [Unavailable] * 5
    failing.clear()
    assert made.ask(3) == 6
