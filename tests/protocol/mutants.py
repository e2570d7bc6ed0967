# SPDX-License-Identifier: Apache-2.0
"""Mistakes that one could make in the protocol; the explorer has to find each of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from cnsmo.agent import rounds
from cnsmo.core import host_rows
from cnsmo.model.lifecycle import State
from cnsmo.model.resource import AGENT, HOST, Changes, Row
from cnsmo.state.changeset import Changeset
from cnsmo.state.protocol import Copy
from tests.protocol.double import DEPLOYMENT, Base
from tests.protocol.world import Bounds

Where = tuple[Any, str]


@dataclasses.dataclass(frozen=True)
class Mutant:
    """What is put in the place of what, the bounds in which that is found, and how it shows."""

    where: Where
    instead: Callable[..., Any]
    shows: str
    bounds: Bounds


BARE = Bounds(changes=0, moves=0, spare=0)
CHANGES = Bounds(changes=2, moves=0, spare=0, settled=True)
MOVES = Bounds(changes=0, moves=2, spare=0, settled=True)
LATE = Bounds(changes=0, moves=0, spare=1, settled=True)
TWICE_LATE = Bounds(changes=0, moves=0, spare=2, settled=True)
LATE_MOVES = Bounds(changes=0, moves=2, spare=1, settled=True)
NEW = Bounds(changes=1, moves=0, spare=0)
NEW_LATE = Bounds(changes=0, moves=0, spare=1)

_changes, _taking, _record, _saved = Base.changes, Copy.taking, Copy.record, Copy.saved
_delete = Changeset.delete


def _never_a_snapshot_after_a_purge(since: int, head: int, _purged: int) -> bool:
    return since <= 0 or head < since


def _one_row_too_few(revision: int, since: int, snapshot: bool) -> bool:
    return snapshot or revision > since + 1


def _without_tombstones(base: Base, since: int) -> Changes:
    answer = _changes(base, since)
    return answer.model_copy(update={"rows": [row for row in answer.rows if not row.deleted]})


def _answer_of_before(base: Base, since: int) -> Changes:
    """An answer to an earlier call is taken for one to this: a bus that confuses calls."""
    if since < base.head:
        return _changes(base, since)
    rows = [row for row in base.rows if row.revision < since]
    return Changes(deployment=DEPLOYMENT, head=since - 1, snapshot=True, rows=rows)


def _old_rows_stay(copy: Copy, changes: Changes) -> Copy:
    return _taking(copy, changes.model_copy(update={"snapshot": False}))


def _added_to_what_a_snapshot_replaces(copy: Copy, changes: Changes) -> Copy:
    return dataclasses.replace(_taking(copy, changes), whole=copy.whole)


def _only_the_last_rows_are_unsaved(copy: Copy, changes: Changes) -> Copy:
    return _taking(dataclasses.replace(copy, unsaved={}), changes)


def _agents_stay(draft: Changeset, kind: str, name: str) -> bool:
    return False if kind == AGENT else _delete(draft, kind, name)


def _anybody(rows: Changeset, host: str, _ident: str) -> Row | None:
    return rows.get(HOST, host)


def _always_welcome(rows: Changeset, host: str, service: str, ident: str, repeated: bool) -> bool:
    host_rows.transition(rows, host, service, State.JOINING, "", ident)
    return True


def _unchecked(base: Base, host: str, ident: str, applied: int) -> Base:
    """As it was: whoever proved to be a host once writes to the one that has its name now."""
    known = dict(base.signs)
    if host not in known:
        return base
    signs = {**known, host: dataclasses.replace(known[host], applied=applied, by=ident)}
    return dataclasses.replace(base, signs=tuple(sorted(signs.items())))


def _told_once(said: rounds.Said | None, _stands: rounds.Said) -> bool:
    return said is None


def _blind(*_: Any) -> rounds.Heard:
    return rounds.Heard(True, False, False)


MUTANTS = {
    "the purge is not looked at": Mutant(
        ("cnsmo.state.protocol", "needs_snapshot"),
        _never_a_snapshot_after_a_purge,
        "a replica holds",
        CHANGES,
    ),
    "the horizon stays": Mutant(
        ("cnsmo.state.protocol", "later_horizon"),
        lambda purged, _forgotten: purged,
        "a replica holds",
        CHANGES,
    ),
    "one row too few": Mutant(
        ("cnsmo.state.protocol", "is_told"), _one_row_too_few, "a replica holds", BARE
    ),
    "tombstones are not told": Mutant(
        (Base, "changes"), _without_tombstones, "a replica holds", CHANGES
    ),
    "a stale answer is taken": Mutant(
        (Base, "changes"), _answer_of_before, "a replica goes back", BARE
    ),
    "a snapshot is added to what was there": Mutant(
        (Copy, "taking"), _old_rows_stay, "a replica holds", CHANGES
    ),
    "a snapshot is added to the file": Mutant(
        (Copy, "taking"), _added_to_what_a_snapshot_replaces, "the disk holds", CHANGES
    ),
    "what was not saved is forgotten": Mutant(
        (Copy, "taking"), _only_the_last_rows_are_unsaved, "the disk holds", NEW
    ),
    "an agent outlives its host": Mutant(
        (Changeset, "delete"), _agents_stay, "the agent of h", MOVES
    ),
    "who was removed reports": Mutant(
        ("cnsmo.core.host_rows", "present"), _anybody, "which was removed", LATE_MOVES
    ),
    "who was removed beats": Mutant((Base, "beat"), _unchecked, "which was removed", LATE_MOVES),
    "a join that comes late counts": Mutant(
        ("cnsmo.core.host_rows", "welcome"), _always_welcome, "a join that came late", NEW_LATE
    ),
    "a late report stays": Mutant(
        ("cnsmo.agent.rounds", "is_misheard"), lambda *_: False, "for ever", TWICE_LATE
    ),
    "what a failed round owed is forgotten": Mutant(
        ("cnsmo.agent.rounds", "due"), lambda woken, _owed: set(woken), "for ever", NEW
    ),
    "a state is told once": Mutant(("cnsmo.agent.rounds", "is_news"), _told_once, "for ever", LATE),
    "a beat's head is not looked at": Mutant(
        ("cnsmo.agent.rounds", "heard"),
        lambda *_: rounds.Heard(False, False, False),
        "stays",
        BARE,
    ),
    "who is down is not asked": Mutant(("cnsmo.agent.rounds", "heard"), _blind, "for ever", LATE),
}
