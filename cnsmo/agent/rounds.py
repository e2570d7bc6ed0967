# SPDX-License-Identifier: Apache-2.0
"""What an agent does about what it hears: when it asks, looks, keeps and tells.

Pure: the worker and the heart act on it, and the model check tries it (doc/protocol.md).
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Collection, Mapping, Set
from typing import TypeVar

from cnsmo.model.lifecycle import State
from cnsmo.model.messages import AgentReport, HeartbeatAnswer
from cnsmo.model.resource import AGENT, Row, View, joined

R = TypeVar("R")
Said = tuple[State, str]
"""A state and its reason."""


@dataclasses.dataclass(frozen=True)
class Round:
    """What a round does once it has fetched."""

    announces: bool
    """Tell the others what they must know, where that is new."""
    looks: bool
    """Bring in force what is desired, and tell how it stands."""
    thorough: bool
    """Look at what is really there, even where nothing else is desired than the last time."""
    beats: bool
    catches_up: bool
    """Whether the beat asks for what is newer than what was fetched."""


def due(woken: Set[R], owed: Set[R]) -> set[R]:
    """The reasons of a round; owed: those of rounds that failed, whatever wakes the next one."""
    return {*woken, *owed} if woken else set()


def plan(rows: Collection[Row], asked: bool, left: bool, behind: bool) -> Round:
    """The round that follows from what was fetched.

    asked: somebody wants to see how things stand. left: the last round ended early. behind: a
    service has not brought in force what the replica holds.
    """
    declared = left or moves(rows)
    thorough = left or asked
    looks = bool(rows) or thorough or behind
    return Round(
        announces=looks and (declared or thorough),
        looks=looks,
        thorough=thorough,
        beats=declared or not rows,
        catches_up=not declared,
    )


def moves(rows: Collection[Row]) -> bool:
    """Whether rows can make a host do something: those that only tell how agents stand do not.

    So they alone are not worth a write to the disk.
    """
    return any(row.kind != AGENT for row in rows)


def taken(report: AgentReport) -> Said:
    """What the core holds of a report that it took."""
    return report.state, report.reason


def is_news(said: Said | None, stands: Said) -> bool:
    """Whether a service stands differently than was said last."""
    return said != stands


def is_misheard(view: View, host: str, service: str, told: Said | None) -> bool:
    """Whether the core says something else of an agent than it took from it last.

    An earlier message came late. Who is said to be down is asked for a report with the beat, as
    soon as it may come back. view: fetched after that was told; None: nothing was.
    """
    row = view.get(AGENT, joined(host, service))
    if told is None or row is None or row.body["state"] == State.DOWN:
        return False
    return (row.body["state"], row.body["reason"]) != told


def is_newly_asked(asked: datetime.datetime | None, looked: datetime.datetime | None) -> bool:
    """Whether an operator wants an observation. asked, looked: as told now, and the last time."""
    return asked is not None and asked != looked


@dataclasses.dataclass(frozen=True)
class Heard:
    """What a heartbeat's answer asks for."""

    sync: bool
    look: bool
    report: bool


def heard(
    answer: HeartbeatAnswer,
    seen: int,
    announced: Mapping[str, int],
    confirmed: Mapping[str, int],
    looked: datetime.datetime | None,
    misheard: bool,
) -> Heard:
    """What follows from a heartbeat's answer.

    seen: the replica's revision. announced: by service, the newest revision of this host's own
    rows. confirmed, looked: of the answer before. misheard: see above.
    """
    newly = any(
        confirmed.get(service, 0) < revision <= answer.confirmed.get(service, 0)
        for service, revision in announced.items()
    )
    asked = is_newly_asked(answer.observe_at, looked)
    return Heard(answer.head != seen, newly, bool(answer.forgotten) or asked or misheard)
