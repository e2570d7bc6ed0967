# SPDX-License-Identifier: Apache-2.0
"""Hints: the first at once, the rest coalesced, none worth an error."""

import queue
import threading
import time
from collections.abc import Iterator

import pytest

from cnsmo.core.hints import Hinter

LONG = 1.0
"""Seconds; longer than anything else here takes."""


class Casts:
    """Collects what is cast; can be made to fail."""

    def __init__(self) -> None:
        self.arrived: queue.Queue[tuple[str, int]] = queue.Queue()
        self.broken = False

    def cast(self, ident: str, head: int) -> None:
        if self.broken:
            raise ConnectionError("the broker is away")
        self.arrived.put((ident, head))

    def next(self) -> tuple[str, int]:
        return self.arrived.get(timeout=5)


@pytest.fixture
def casts() -> Casts:
    return Casts()


@pytest.fixture
def hinter(casts: Casts) -> Iterator[Hinter]:
    made = Hinter(LONG, lambda deployment: [f"h-{deployment}"], casts.cast)
    made.start()
    yield made
    made.stop()


def test_the_first_hint_leaves_at_once(hinter: Hinter, casts: Casts) -> None:
    started = time.monotonic()
    hinter.notify("shop", 1)
    assert casts.next() == ("h-shop", 1)
    assert time.monotonic() - started < LONG


def test_what_follows_within_the_interval_is_one_hint_of_the_newest(
    hinter: Hinter, casts: Casts
) -> None:
    hinter.notify("shop", 1)
    casts.next()
    for head in (2, 5, 3, 4):
        hinter.notify("shop", head)
    started = time.monotonic()
    assert casts.next() == ("h-shop", 5)
    assert time.monotonic() - started > LONG / 2
    hinter.stop()
    assert casts.arrived.empty()


def test_news_that_can_wait_leave_with_what_cannot(
    casts: Casts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnsmo.core.hints.LAZY_SECONDS", LONG)
    hinter = Hinter(0.0, lambda deployment: [f"h-{deployment}"], casts.cast)
    hinter.start()
    started = time.monotonic()
    hinter.notify("shop", 1, lazy=True)
    hinter.notify("shop", 2)
    hinter.notify("shop", 3, lazy=True)
    assert casts.next() in (("h-shop", 2), ("h-shop", 3))
    assert time.monotonic() - started < LONG
    hinter.stop()


def test_news_that_can_wait_do_not_wait_for_ever(
    casts: Casts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnsmo.core.hints.LAZY_SECONDS", 0.2)
    hinter = Hinter(0.0, lambda deployment: [f"h-{deployment}"], casts.cast)
    hinter.start()
    started = time.monotonic()
    for head in range(1, 4):
        hinter.notify("shop", head, lazy=True)
        time.sleep(0.05)
    assert casts.next() == ("h-shop", 3)
    assert 0.2 <= time.monotonic() - started < 0.2 + LONG
    hinter.stop()


def test_deployments_do_not_wait_for_each_other(hinter: Hinter, casts: Casts) -> None:
    hinter.notify("shop", 1)
    casts.next()
    hinter.notify("shop", 2)
    hinter.notify("lab", 7)
    started = time.monotonic()
    assert casts.next() == ("h-lab", 7)
    assert time.monotonic() - started < LONG


def test_stopping_sends_what_is_pending(hinter: Hinter, casts: Casts) -> None:
    hinter.notify("shop", 1)
    casts.next()
    hinter.notify("shop", 2)
    started = time.monotonic()
    hinter.stop()
    assert time.monotonic() - started < LONG
    assert casts.next() == ("h-shop", 2)


def test_a_hint_that_fails_is_forgotten_and_the_next_one_leaves(
    hinter: Hinter, casts: Casts
) -> None:
    casts.broken = True
    hinter.notify("shop", 1)
    hinter.part("h-gone", 1)
    hinter.notify("lab", 1)
    time.sleep(0.01)
    casts.broken = False
    hinter.notify("other", 3)
    while casts.next() != ("h-other", 3):
        pass


def test_a_host_that_was_removed_gets_its_last_hint_at_once(hinter: Hinter, casts: Casts) -> None:
    hinter.part("h-gone", 9)
    assert casts.next() == ("h-gone", 9)


def test_the_interval_grows_with_the_number_of_hosts(casts: Casts) -> None:
    many = Hinter(0.0, lambda _deployment: ["h"] * 300, casts.cast)
    many.start()
    many.notify("shop", 1)
    for _ in range(300):
        casts.next()
    started = time.monotonic()
    many.notify("shop", 2)
    casts.next()
    assert time.monotonic() - started > 0.2
    many.stop()


def test_it_can_be_started_again(hinter: Hinter, casts: Casts) -> None:
    hinter.stop()
    hinter.start()
    hinter.notify("shop", 1)
    assert casts.next() == ("h-shop", 1)


def test_notifying_never_waits_for_the_broker(casts: Casts) -> None:
    gate = threading.Event()

    def stuck(ident: str, head: int) -> None:
        gate.wait(5)
        casts.cast(ident, head)

    hinter = Hinter(0.0, lambda deployment: [deployment], stuck)
    hinter.start()
    started = time.monotonic()
    for head in range(100):
        hinter.notify("shop", head)
    assert time.monotonic() - started < 1
    gate.set()
    hinter.stop()
