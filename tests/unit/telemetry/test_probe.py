# SPDX-License-Identifier: Apache-2.0
"""A look that may never end: who asks waits for a while, and many who ask look once."""

import threading

import pytest

from cnsmo.telemetry.probe import Probe
from tests.eventually import eventually


def test_a_look_that_does_not_end_is_waited_for_once_and_told_when_it_ends() -> None:
    hold, looks = threading.Event(), []

    def look() -> int:
        looks.append(1)
        hold.wait(30)
        return 7

    probe = Probe(look, patience=0.05)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            probe.read()
    assert len(looks) == 1
    hold.set()
    assert eventually(lambda: probe._under_way and probe._under_way.done())
    assert probe.read() == 7


def test_what_the_look_raises_is_raised_to_who_asks() -> None:
    def look() -> None:
        raise KeyError("gone")

    with pytest.raises(KeyError, match="gone"):
        Probe(look, patience=5).read()


def test_an_answer_counts_for_a_moment_and_then_it_looks_anew() -> None:
    answers = iter(range(9))
    kept = Probe(lambda: next(answers), patience=5, fresh=60)
    assert [kept.read(), kept.read()] == [0, 0]
    anew = Probe(lambda: next(answers), patience=5, fresh=0)
    assert [anew.read(), anew.read()] == [1, 2]
