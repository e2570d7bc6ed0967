# SPDX-License-Identifier: Apache-2.0
"""The sync protocol, both halves: what a core answers, and what a replica makes of the answer.

Pure, and all there is of it: the store asks its database by these rules, the replica keeps on disk
what they say, and the model check (doc/protocol.md) tries them against every fault.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from cnsmo.model.resource import Changes, Row, View


def needs_snapshot(since: int, head: int, purged: int) -> bool:
    """Whether who has revision ``since`` is told everything.

    So is who has nothing, who may have missed tombstones that are forgotten, and who is ahead (the
    database was restored).
    """
    return purged > since or head < since or since <= 0


def is_told(revision: Any, since: int, snapshot: bool) -> Any:
    """Whether a row of that revision is in the answer; a number, or a column, which makes an SQL
    expression. The first revision is 1.
    """
    return revision > (0 if snapshot else since)


def later_horizon(purged: int, forgotten: int) -> int:
    """The purge horizon, once the tombstone of that revision is forgotten: it never goes back."""
    return max(purged, forgotten)


@dataclasses.dataclass(frozen=True)
class Record:
    """What is written to a replica's file: all rows in place of what is there, or some more."""

    revision: int
    rows: tuple[Row, ...]
    whole: bool


@dataclasses.dataclass(frozen=True)
class Copy:
    """What a replica holds at one moment, and what of it is not on the disk yet.

    ``whole``: the disk has nothing that could be added to.
    """

    view: View
    unsaved: Mapping[tuple[str, str], Row]
    whole: bool = True

    @classmethod
    def empty(cls, deployment: str) -> Copy:
        """Of who knows nothing yet."""
        return cls(View(deployment, 0, ()), {})

    @classmethod
    def read(cls, deployment: str, records: Iterable[Record]) -> Copy:
        """What a file's records come to; the next is whole, for what follows them is unknown."""
        view = View(deployment, 0, ())
        for record in records:
            view = view.after(record.revision, record.rows)
        return cls(view, {})

    def taking(self, changes: Changes) -> Copy:
        """The copy after an answer; itself, when that is old news and no snapshot."""
        if not changes.snapshot and changes.head <= self.view.revision:
            return self
        view = View(self.view.deployment, 0, ()) if changes.snapshot else self.view
        revision = max([changes.head, *(row.revision for row in changes.rows)])
        unsaved = {**self.unsaved, **{(row.kind, row.name): row for row in changes.rows}}
        return Copy(view.after(revision, changes.rows), unsaved, self.whole or changes.snapshot)

    def record(self, whole: bool = False) -> Record:
        """What brings the file up to this copy; whole: even where it could be added to."""
        if whole or self.whole:
            rows = (*self.view, *self.view.thrown_out)
            return Record(self.view.revision, rows, True)
        return Record(self.view.revision, tuple(self.unsaved.values()), False)

    def saved(self) -> Copy:
        """The copy once that is on the disk."""
        return Copy(self.view, {}, whole=False)
