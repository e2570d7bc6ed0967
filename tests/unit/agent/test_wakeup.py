# SPDX-License-Identifier: Apache-2.0
"""What the worker waits for, and how long it waits before it tries again."""

import threading
import time

from hypothesis import given
from hypothesis import strategies as st

from cnsmo.agent.wakeup import Backoff, Reason, Wakeup, jittered


def test_several_reasons_of_a_kind_are_one() -> None:
    wakeup = Wakeup()
    for reason in (Reason.SYNC, Reason.SYNC, Reason.REPORT):
        wakeup.give(reason)
    assert wakeup.take() == {Reason.SYNC, Reason.REPORT}
    assert wakeup.take(time.monotonic()) == set()


def test_a_reason_wakes_who_waits() -> None:
    wakeup = Wakeup()
    taken: list[set[Reason]] = []
    waiting = threading.Thread(target=lambda: taken.append(wakeup.take()))
    waiting.start()
    wakeup.give(Reason.RESYNC)
    waiting.join(5)
    assert taken == [{Reason.RESYNC}]


def test_a_deadline_that_has_passed_ends_the_wait_at_once() -> None:
    assert Wakeup().take(time.monotonic() - 10) == set()


def test_only_stop_ends_the_wait_for_stop() -> None:
    wakeup = Wakeup()
    wakeup.give(Reason.SYNC)
    assert not wakeup.stopping
    assert not wakeup.wait_stop(0.01)
    wakeup.give(Reason.STOP)
    assert wakeup.stopping
    assert wakeup.wait_stop(60)
    assert wakeup.take() == {Reason.SYNC, Reason.STOP}
    assert not wakeup.stopping


@given(first=st.floats(0.01, 10), factor=st.floats(1, 100), tries=st.integers(1, 30))
def test_pauses_double_up_to_a_bound_and_never_vanish(
    first: float, factor: float, tries: int
) -> None:
    longest = first * factor
    backoff = Backoff(first, longest)
    bound = first
    for _ in range(tries):
        pause = backoff.pause()
        assert bound / 2 <= pause <= bound <= longest
        bound = min(bound * 2, longest)
    backoff.reset()
    assert first / 2 <= backoff.pause() <= first


def test_a_fleet_does_not_beat_in_step() -> None:
    drawn = [jittered(10.0) for _ in range(200)]
    assert all(7.0 <= pause <= 13.0 for pause in drawn)
    assert max(drawn) - min(drawn) > 3
