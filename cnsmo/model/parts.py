# SPDX-License-Identifier: Apache-2.0
"""A long answer to "what changed since R", told in parts; and what its reader makes of them. Pure.

Rows are told in the order of their revisions (within one, of kind and name). Each part says how
things stand at a moment of its own, and a row that changes meanwhile gets a newer revision: it is
told (again) in a later part. So when the last part was told, all of them together are the answer
that would have been given at once in that moment. Nobody keeps anything for it on the core's side:
the reader says where to go on, to any core.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from cnsmo.model.messages import Revision
from cnsmo.model.resource import Changes, Row


def _check_printable(value: str) -> str:
    """Return it; no kind or name of a row has anything else, and not every database takes it."""
    if not value.isprintable():
        raise ValueError("it holds what cannot be printed")
    return value


class Mark(BaseModel):
    """Where to go on: after the row with that key.

    ``floor``: tombstones that are newer must not be forgotten before the end. ``head``: of the part
    before.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    floor: Revision
    head: Revision
    revision: Revision
    kind: Annotated[str, Field(max_length=63), AfterValidator(_check_printable)]
    name: Annotated[str, Field(max_length=190), AfterValidator(_check_printable)]


class Asked(BaseModel):
    """What a reader asks: what changed after ``since``; ``mark``: beyond what it was told."""

    model_config = ConfigDict(extra="forbid")

    since: Revision
    mark: Mark | None = None


class Part(Changes):
    """A part of an answer. ``begins``: it is the first one, and what was told before counts no
    more. ``mark``: where to go on; None: this was the last one.
    """

    begins: bool
    mark: Mark | None = None


def part(
    deployment: str,
    head: int,
    rows: list[Row],
    begun: Mark | tuple[int, bool],
    most: int,
    observe_at: datetime.datetime | None = None,
) -> Part:
    """The part of these rows, which go on beyond it when they are more than ``most``.

    begun: the mark from which it goes on; or, for the first one, since when, and whether it begins
    a snapshot. observe_at: see Changes.
    """
    first = isinstance(begun, tuple)
    if isinstance(begun, tuple):
        since, snapshot = begun
        floor = head if snapshot else since
    else:
        floor, snapshot = begun.floor, False
    mark = None
    if len(rows) > most:
        rows = rows[:most]
        last = rows[-1]
        mark = Mark(floor=floor, head=head, revision=last.revision, kind=last.kind, name=last.name)
    return Part(
        deployment=deployment,
        head=head,
        snapshot=snapshot,
        rows=rows,
        observe_at=observe_at,
        begins=first,
        mark=mark,
    )


def goes_on(mark: Mark, head: int, purged: int) -> bool:
    """Whether what was told before still counts: no tombstone was forgotten that its reader should
    have been told of, and the database was not restored to an earlier time.
    """
    return purged <= mark.floor and mark.head <= head


@dataclasses.dataclass(frozen=True)
class Collected:
    """What a reader was told so far."""

    since: int
    rows: Mapping[tuple[str, str], Row] = dataclasses.field(default_factory=dict)
    last: Part | None = None
    snapshot: bool = False

    @property
    def mark(self) -> Mark | None:
        """Where to go on."""
        return None if self.last is None else self.last.mark

    def taking(self, told: Part) -> Collected:
        """With one more part; what it begins replaces all that was told before."""
        rows = {} if told.begins else dict(self.rows)
        rows |= {(row.kind, row.name): row for row in told.rows}
        return Collected(self.since, rows, told, told.snapshot if told.begins else self.snapshot)

    def answer(self) -> Changes | None:
        """The whole answer; None as long as something is missing."""
        if self.last is None or self.last.mark is not None:
            return None
        return Changes(
            deployment=self.last.deployment,
            head=self.last.head,
            snapshot=self.snapshot,
            rows=sorted(self.rows.values(), key=lambda row: (row.revision, row.kind, row.name)),
            observe_at=self.last.observe_at,
        )
