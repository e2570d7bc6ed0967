# SPDX-License-Identifier: Apache-2.0
"""The life of an agent."""

import re
from pathlib import Path

import pytest

from cnsmo.model.lifecycle import GONE, SETTLED, TRANSITIONS, State, may_follow

DIAGRAM = Path(__file__).parents[3] / "doc" / "operator.md"
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


def drawn() -> dict[str, set[str]]:
    """The edges of the mermaid diagram: "before --> after"."""
    found: dict[str, set[str]] = {}
    for before, after in re.findall(r"^\s*(\w+) --> (\w+)", DIAGRAM.read_text(), re.MULTILINE):
        found.setdefault(before, set()).add(after)
    return found


def test_the_diagram_shows_the_state_machine() -> None:
    if not DIAGRAM.exists() or "stateDiagram" not in DIAGRAM.read_text():
        return  # not written yet
    edges = drawn()
    wanted = {before: set(after) for before, after in TRANSITIONS.items() if after}
    assert {k: v for k, v in edges.items() if k in set(State)} == wanted
