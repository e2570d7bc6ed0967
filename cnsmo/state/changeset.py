# SPDX-License-Identifier: Apache-2.0
"""What one write makes of the rows: read when needed, changed in memory, stamped at the end.

Pure: where rows come from, and where they go, is for who derives from it.
"""

from __future__ import annotations

import abc
import datetime
from collections.abc import Collection, Iterable
from typing import Any

from cnsmo.model.resource import Row, View


class Changeset(abc.ABC):
    """The rows of one deployment, as one write sees and changes them."""

    def __init__(self, deployment: str, revision: int, author: str, at: datetime.datetime) -> None:
        self.deployment = deployment
        self.base_revision = revision
        self.author = author
        self._at = at
        self._rows: dict[tuple[str, str], Row | None] = {}
        self._loaded: set[str] = set()
        self._changed: dict[tuple[str, str], Row] = {}
        self._replaced: dict[tuple[str, str], Row] = {}
        self._fresh: set[tuple[str, str]] = set()
        """What had no row before, not even a tombstone."""

    @property
    def revision(self) -> int:
        """The revision that this write makes; the old one as long as nothing changes."""
        return self.base_revision + bool(self._changed)

    @property
    def changed(self) -> list[Row]:
        """What this write changes, so far."""
        return [row.model_copy(update={"revision": self.revision}) for row in self._effective()]

    @property
    def replaced(self) -> dict[tuple[str, str], Row]:
        """The live rows that this write changes or deletes, as they were, by kind and name."""
        return dict(self._replaced)

    def get(self, kind: str, name: str) -> Row | None:
        """The live row of that kind and name."""
        row = self._row(kind, name)
        return None if row is None or row.deleted else row

    def rows(self, kind: str) -> list[Row]:
        """Live rows of a kind, by name."""
        return [row for row in self._all([kind]) if not row.deleted]

    def mentioning(self, kind: str, words: Collection[str]) -> list[Row]:
        """Live rows of a kind, by name: at least those whose bodies hold one of these words, which
        JSON writes as they are; and what this write already knows.
        """
        if words and kind not in self._loaded:
            self._learn(self._find_mentioning(kind, words))
        return self._known(kind)

    def beneath(self, kind: str, start: str) -> list[Row]:
        """Live rows of a kind whose names start so, by name."""
        if kind not in self._loaded:
            self._learn(self._find_beneath(kind, start))
        return [row for row in self._known(kind) if row.name.startswith(start)]

    def view(self, kinds: Collection[str], granted: Iterable[str] = ()) -> View:
        """A view over some kinds, with tombstones and with what this write already changed."""
        return View(self.deployment, self.revision, self._all(kinds), now=self._at, granted=granted)

    def put(self, kind: str, name: str, body: dict[str, Any], owner: str) -> bool:
        """Write a row; an equal one stays untouched.

        :return: whether something changed.
        """
        before = self._row(kind, name)
        if before and not before.deleted and before.body == body and before.owner == owner:
            return False
        self._set(kind, name, body, owner, deleted=False)
        return True

    def delete(self, kind: str, name: str) -> bool:
        """Leave a tombstone with the last body; what is not there stays so."""
        before = self.get(kind, name)
        if before is None:
            return False
        self._set(kind, name, before.body, before.owner, deleted=True)
        return True

    @abc.abstractmethod
    def _find(self, kind: str, name: str) -> Row | None:
        """The row of that kind and name as it is stored, or its tombstone."""

    @abc.abstractmethod
    def _find_all(self, kinds: Collection[str]) -> Iterable[Row]:
        """All rows of these kinds as they are stored, and tombstones."""

    def _find_mentioning(self, kind: str, words: Collection[str]) -> Iterable[Row]:
        """See mentioning(); as they are stored."""
        return self._find_all([kind])

    def _find_beneath(self, kind: str, start: str) -> Iterable[Row]:
        """See beneath(); as they are stored."""
        return self._find_all([kind])

    def _learn(self, found: Iterable[Row]) -> None:
        for row in found:
            self._rows.setdefault((row.kind, row.name), row)

    def _known(self, kind: str) -> list[Row]:
        found = sorted(self._rows.items())
        return [row for (of, _name), row in found if of == kind and row and not row.deleted]

    def _effective(self) -> list[Row]:
        return [self._changed[key] for key in sorted(self._changed)]

    def _set(self, kind: str, name: str, body: dict[str, Any], owner: str, deleted: bool) -> None:
        key = (kind, name)
        before = self._row(kind, name)
        if before is None:
            self._fresh.add(key)
        elif not before.deleted and key not in self._changed:
            self._replaced[key] = before
        row = Row(
            kind=kind,
            name=name,
            owner=owner,
            author=self.author,
            revision=self.base_revision + 1,
            deleted=deleted,
            body=body,
            updated_at=self._at,
        )
        self._rows[key] = row
        self._changed[key] = row

    def _row(self, kind: str, name: str) -> Row | None:
        key = (kind, name)
        if key not in self._rows and kind not in self._loaded:
            self._rows[key] = self._find(kind, name)
        return self._rows.get(key)

    def _all(self, kinds: Collection[str]) -> list[Row]:
        missing = [kind for kind in kinds if kind not in self._loaded]
        if missing:
            self._learn(self._find_all(missing))
            self._loaded.update(missing)
        return [row for (kind, _name), row in sorted(self._rows.items()) if row and kind in kinds]
