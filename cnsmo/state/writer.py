# SPDX-License-Identifier: Apache-2.0
"""What happens inside one write: rows are read, changed in memory, and stamped at the end."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterable
from typing import Any

import sqlalchemy as sa

from cnsmo.model.audit import BEGIN, Act, AuditLine, Change
from cnsmo.model.resource import Row, View
from cnsmo.state import audit
from cnsmo.state.audit import Chain
from cnsmo.state.engine import aware
from cnsmo.state.tables import DEPLOYMENTS, RESOURCES
from cnsmo.state.vault import Vault


class Writer:
    """One write to one deployment, whose row is locked from before the first read to the end.

    ``connection`` is the transaction, for what the same write does to other tables; what that is,
    note() tells the audit. ``vault`` seals what is secret in them.
    """

    def __init__(
        self,
        connection: sa.Connection,
        deployment_id: int,
        deployment: str,
        revision: int,
        author: str,
        now: datetime.datetime,
        vault: Vault,
        chain: Chain,
        act: Act,
    ) -> None:
        self.connection = connection
        self.vault = vault
        self.deployment_id = deployment_id
        self.deployment = deployment
        self.base_revision = revision
        self.author = author
        self.now = now
        self._rows: dict[tuple[str, str], Row | None] = {}
        self._loaded: set[str] = set()
        self._changed: dict[tuple[str, str], Row] = {}
        self._replaced: dict[tuple[str, str], Row] = {}
        self._fresh: set[tuple[str, str]] = set()
        self._chain = chain
        self._act = act
        self._noted: list[Change] = []
        self.lines: list[AuditLine] = []
        """What flush() wrote to the audit."""

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

    def view(self, kinds: Collection[str], granted: Iterable[str] = ()) -> View:
        """A view over some kinds, with tombstones and with what this write already changed."""
        return View(
            self.deployment, self.revision, self._all(kinds), now=aware(self.now), granted=granted
        )

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

    def note(self, change: Change) -> None:
        """Have the audit tell of a change that is none of rows."""
        self._noted.append(change)

    def flush(self) -> int:
        """Write all changes, stamped with the next revision, and what the audit says of them.

        :return: the deployment's revision from now on.
        """
        self._audit()
        return self._flush_rows()

    def _audit(self) -> None:
        changes = [*self._noted, *audit.told(self._effective(), self._replaced)]
        if changes and self._chain.lines == 0:
            begin = audit.beginning(self.connection, self.deployment_id, self.base_revision)
            self._append(audit.CORE.by(BEGIN), self.base_revision, [begin])
        self._append(self._act, self.revision, changes)
        self._noted.clear()

    def _append(self, act: Act, revision: int, changes: list[Change]) -> None:
        added = audit.append(
            self.connection, self.vault, self._chain, act, self.now, revision, changes
        )
        if added:
            self._chain = Chain(self._chain.id, added[-1].number, added[-1].hash)
            self.lines += added

    def _flush_rows(self) -> int:
        rows = self._effective()
        if not rows:
            return self.base_revision
        revision = self.base_revision + 1
        for row in rows:
            values = {
                "owner": row.owner,
                "author": row.author,
                "revision": revision,
                "deleted": row.deleted,
                "body": row.body,
                "updated_at": self.now,
            }
            key = {"deployment_id": self.deployment_id, "kind": row.kind, "name": row.name}
            if (row.kind, row.name) in self._fresh:
                self.connection.execute(sa.insert(RESOURCES).values(**key, **values))
            else:
                where = sa.and_(*(RESOURCES.c[column] == key[column] for column in key))
                self.connection.execute(sa.update(RESOURCES).where(where).values(**values))
        self.connection.execute(
            sa.update(DEPLOYMENTS)
            .where(DEPLOYMENTS.c.id == self.deployment_id)
            .values(revision=revision)
        )
        return revision

    @property
    def chain(self) -> Chain:
        """The deployment's audit, with what flush() added."""
        return self._chain

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
            updated_at=aware(self.now),
        )
        self._rows[key] = row
        self._changed[key] = row

    def _row(self, kind: str, name: str) -> Row | None:
        key = (kind, name)
        if key not in self._rows and kind not in self._loaded:
            found = self._select(RESOURCES.c.kind == kind, RESOURCES.c.name == name)
            self._rows[key] = found[0] if found else None
        return self._rows.get(key)

    def _all(self, kinds: Collection[str]) -> list[Row]:
        missing = [kind for kind in kinds if kind not in self._loaded]
        if missing:
            for row in self._select(RESOURCES.c.kind.in_(missing)):
                self._rows.setdefault((row.kind, row.name), row)
            self._loaded.update(missing)
        return [row for (kind, _name), row in sorted(self._rows.items()) if row and kind in kinds]

    def _select(self, *where: sa.ColumnElement[bool]) -> list[Row]:
        query = sa.select(RESOURCES).where(RESOURCES.c.deployment_id == self.deployment_id, *where)
        return [to_row(record) for record in self.connection.execute(query).mappings()]


def to_row(record: sa.RowMapping) -> Row:
    """A row of the table as everybody else sees it."""
    return Row(
        kind=record["kind"],
        name=record["name"],
        owner=record["owner"],
        author=record["author"],
        revision=record["revision"],
        deleted=record["deleted"],
        body=record["body"],
        updated_at=aware(record["updated_at"]),
    )
