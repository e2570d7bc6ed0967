# SPDX-License-Identifier: Apache-2.0
"""The life of an agent."""

import pytest

from cnsmo.model.lifecycle import GONE, SETTLED, TRANSITIONS, State, may_follow

REPORTED = {State.CONFIGURING, State.READY, State.DEGRADED, State.ERROR}


def test_every_state_has_its_place() -> None:
    assert set(TRANSITIONS) == set(State)


def test_who_left_has_no_way_back() -> None:
    assert TRANSITIONS[State.LEFT] == frozenset()


@pytest.mark.parametrize("before", [state for state in State if state is not State.LEFT])
def test_from_everywhere_else_all_that_an_agent_reports_is_possible(before: State) -> None:
    assert TRANSITIONS[before] >= REPORTED - {before}
    assert may_follow(before, State.LEFT)
    assert not may_follow(before, before)
    assert not may_follow(before, State.JOINING)


def test_silence_makes_everybody_but_the_gone_down() -> None:
    assert {state for state in State if may_follow(state, State.DOWN)} == set(State) - GONE


def test_settled_and_gone_exclude_each_other() -> None:
    assert not SETTLED & GONE
