# SPDX-License-Identifier: Apache-2.0
"""The life of an agent: one state machine, drawn in doc/operator.md.

Every transition is a row of the System State and an event with its reason. ``ready`` is only ever
said after the driver observed what was declared.
"""

from __future__ import annotations

import enum


class State(enum.StrEnum):
    """Where an agent (the pair of a host and a service) stands."""

    JOINING = "joining"
    """Known to the core, has not said anything about itself yet."""
    CONFIGURING = "configuring"
    """Works on a revision that it has not observed to be in force yet."""
    READY = "ready"
    """The driver observed that everything declared is in force."""
    DEGRADED = "degraded"
    """In force, but something named in the reason does not work as declared."""
    ERROR = "error"
    """Could not be brought in force; the previous state still works."""
    DOWN = "down"
    """The core has not heard of the agent for too long; the data plane may well be working."""
    LEFT = "left"
    """Removed, by itself or by the operator. The end: who returns joins anew."""


_REPORTED = {State.CONFIGURING, State.READY, State.DEGRADED, State.ERROR}

TRANSITIONS: dict[State, frozenset[State]] = {
    State.JOINING: frozenset({*_REPORTED, State.DOWN, State.LEFT}),
    State.CONFIGURING: frozenset({*_REPORTED, State.DOWN, State.LEFT} - {State.CONFIGURING}),
    State.READY: frozenset({*_REPORTED, State.DOWN, State.LEFT} - {State.READY}),
    State.DEGRADED: frozenset({*_REPORTED, State.DOWN, State.LEFT} - {State.DEGRADED}),
    State.ERROR: frozenset({*_REPORTED, State.DOWN, State.LEFT} - {State.ERROR}),
    State.DOWN: frozenset({*_REPORTED, State.LEFT}),
    State.LEFT: frozenset(),
}
"""From each state, the states that may follow it."""


def may_follow(before: State, after: State) -> bool:
    """Whether the state machine has an edge from before to after."""
    return after in TRANSITIONS[before]


SETTLED = frozenset({State.READY, State.DEGRADED})
"""States in which the last known revision is in force."""

WORKING = frozenset({State.CONFIGURING, State.READY, State.DEGRADED})
"""States in which the agent follows what is declared."""

GONE = frozenset({State.DOWN, State.LEFT})
"""States in which nobody should wait for the agent."""
