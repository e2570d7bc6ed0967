# SPDX-License-Identifier: Apache-2.0
"""What happens inside one write to the database; its rows as a Changeset."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Sequence

import sqlalchemy as sa
from oslo_log import log

from cnsmo.model.audit import BEGIN, Act, AuditLine, Change
from cnsmo.model.resource import Row
from cnsmo.state import audit, audit_age
from cnsmo.state.audit import Chain
from cnsmo.state.changeset import Changeset
from cnsmo.state.engine import aware
from cnsmo.state.tables import DEPLOYMENTS, RESOURCES
from cnsmo.state.vault import Vault

LOG = log.getLogger(__name__)


class Writer(Changeset):
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
        super().__init__(deployment, revision, author, aware(now))
        self.connection = connection
        self.vault = vault
        self.deployment_id = deployment_id
        self.now = now
        self._chain = chain
        self._act = act
        self._noted: list[Change] = []
        self.lines: list[AuditLine] = []
        """What flush() wrote to the audit."""

    def stamps(self, kinds: Collection[str]) -> list[tuple[str, str, datetime.datetime]]:
        """Kind, name and time of the live rows that are stored, without reading what they say."""
        row = RESOURCES.c
        query = sa.select(row.kind, row.name, row.updated_at).where(
            row.deployment_id == self.deployment_id, row.kind.in_(kinds), row.deleted.is_(False)
        )
        return [(it.kind, it.name, it.updated_at) for it in self.connection.execute(query)]

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
        self._take(added)

    def _take(self, added: Sequence[AuditLine]) -> None:
        if added:
            self._chain = self._chain.to(added[-1].number, added[-1].hash)
            self.lines += added

    def mistrust(self, why: str) -> None:
        """Say in the audit that somebody has changed it, and go on from the state as it is."""
        LOG.error("deployment=%s: the audit was changed by no core: %s", self.deployment, why)
        state = audit.standing(self.connection, self.deployment_id, self.base_revision)
        self._take(
            audit.broken(
                self.connection, self.vault, self._chain, self.now, self.base_revision,
                {"why": why, **state},
            )
        )  # fmt: skip

    def forget_lines(self, older_than: datetime.timedelta) -> int:
        """Forget lines of the audit from days that are that long over; those that do not verify
        stay, and that is said instead.

        :return: how many were forgotten.
        """
        done = audit_age.forget(
            self.connection, self.vault, self._chain, self.now, older_than, self.base_revision
        )
        self._take(done.lines)
        if done.problem:
            self.mistrust(done.problem)
        return done.count

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

    def _find(self, kind: str, name: str) -> Row | None:
        found = self._select(RESOURCES.c.kind == kind, RESOURCES.c.name == name)
        return found[0] if found else None

    def _find_all(self, kinds: Collection[str]) -> list[Row]:
        return self._select(RESOURCES.c.kind.in_(kinds))

    def _find_mentioning(self, kind: str, words: Collection[str]) -> list[Row]:
        text = sa.cast(RESOURCES.c.body, sa.Text)
        some = sa.or_(*(text.contains(word, autoescape=True) for word in words))
        return self._select(RESOURCES.c.kind == kind, some)

    def _find_beneath(self, kind: str, start: str) -> list[Row]:
        name = RESOURCES.c.name
        return self._select(RESOURCES.c.kind == kind, name.startswith(start, autoescape=True))

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
