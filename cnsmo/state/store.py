# SPDX-License-Identifier: Apache-2.0
"""The System State: write, and ask what changed since.

A write locks its deployment's row first, takes revision + 1 and stamps every row it changes, in one
transaction: commit order is revision order. What ``changes(since)`` tells is read by one statement,
so it sees one commit and all before it: no reader ever misses the last version of a row.

SQLite has one write lock and no queue for it (who waits, polls): the threads of one process line
up here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Generic, TypeVar

import sqlalchemy as sa
from oslo_db import exception as db_exc

from cnsmo.model.audit import Act, AuditLine, Change, Role
from cnsmo.model.errors import Conflict, NotFound
from cnsmo.model.parts import Mark, Part, goes_on, part
from cnsmo.model.resource import Changes, Row, View
from cnsmo.state import audit, audit_age
from cnsmo.state.audit import Chain
from cnsmo.state.engine import aware, retried, transaction, utc_now
from cnsmo.state.protocol import is_told, later_horizon, needs_snapshot
from cnsmo.state.tables import AUDIT_CHAINS, DEPLOYMENTS, RESOURCES
from cnsmo.state.vault import Vault
from cnsmo.state.writer import Writer, to_row

T = TypeVar("T")
MOST_ROWS = 1000
"""Of a part."""
RECONNECT_SECONDS = 5.0
"""For how long a write is begun again when the database went away before its end. A commit whose
answer got lost is not repeated: it may have been done."""


@dataclasses.dataclass(frozen=True)
class Deployment:
    """A deployment's own row."""

    id: int
    name: str
    revision: int
    purged: int
    created_at: datetime.datetime
    observe_at: datetime.datetime | None
    suspected_since: datetime.datetime | None


@dataclasses.dataclass(frozen=True)
class Written(Generic[T]):
    """What a write left behind. ``replaced``: what was there before, by kind and name; ``lines``:
    of the audit.
    """

    value: T
    revision: int
    rows: list[Row]
    replaced: Mapping[tuple[str, str], Row]
    lines: list[AuditLine]


class Store:
    """Deployments and their revisioned rows, in any database that oslo.db speaks."""

    def __init__(self, engine: sa.Engine, vault: Vault) -> None:
        self.engine = engine
        self.vault = vault
        sqlite = engine.dialect.name == "sqlite"
        self.turn = threading.Lock() if sqlite else contextlib.nullcontext()

    def create(self, name: str, act: Act | None = None) -> Written[None]:
        """Make an empty deployment at revision 0.

        :raises Conflict: when there is one of that name.
        """
        try:
            with self.turn, transaction(self.engine) as connection:
                chain = Chain.new(name)
                connection.execute(
                    sa.insert(DEPLOYMENTS).values(
                        name=name, revision=0, purged=0, created_at=utc_now(), chain=chain.id
                    )
                )
                audit.start(connection, self.vault, chain)
                writer = self._lock(connection, name, "", act)
                writer.note(Change("deployment", name, None, {"name": name}))
                revision = writer.flush()
        except db_exc.DBDuplicateEntry as exc:
            raise Conflict(f"a deployment {name!r} exists already") from exc
        return Written(None, revision, [], {}, writer.lines)

    def delete(self, name: str, act: Act | None = None) -> Written[None]:
        """Forget a deployment with all that belongs to it; its audit stays for a while.

        :raises NotFound: when there is none of that name.
        """
        with self.turn, transaction(self.engine) as connection:
            writer = self._lock(connection, name, "", act)
            told = {"name": name, "revision": writer.base_revision}
            writer.note(Change("deployment", name, told, None))
            revision = writer.flush()
            audit.finish(connection, self.vault, writer.chain, writer.now)
            connection.execute(sa.delete(DEPLOYMENTS).where(DEPLOYMENTS.c.name == name))
        return Written(None, revision, [], {}, writer.lines)

    def deployments(self) -> list[Deployment]:
        """All deployments, by name."""
        with transaction(self.engine) as connection:
            records = connection.execute(sa.select(DEPLOYMENTS).order_by(DEPLOYMENTS.c.name))
            return [_deployment(record) for record in records.mappings()]

    def deployment(self, name: str) -> Deployment:
        """One deployment.

        :raises NotFound: when there is none of that name.
        """
        with transaction(self.engine) as connection:
            query = sa.select(DEPLOYMENTS).where(DEPLOYMENTS.c.name == name)
            record = connection.execute(query).mappings().one_or_none()
        if record is None:
            raise _unknown(name)
        return _deployment(record)

    def changes(self, name: str, since: int = 0) -> Changes:
        """The latest version of each row written after revision ``since``, and tombstones.

        A ``since`` of 0, before the purge horizon, or ahead of the deployment (the database was
        restored from a backup) gets a snapshot: all live rows and the remembered tombstones.
        """
        with transaction(self.engine) as connection:
            records, snapshot = _begun(connection, name, since)
        return Changes(
            deployment=name,
            head=records[0]["head"],
            snapshot=snapshot,
            rows=_rows(records),
            observe_at=_aware(records[0]["observe_at"]),
        )

    def part(self, name: str, since: int, mark: Mark | None = None, most: int = MOST_ROWS) -> Part:
        """The same as changes(), of so many rows at most; it begins anew where it cannot go on.

        mark: of the part before. Of one revision, all rows that are not told yet are looked at; of
        others, only those that are told.
        """
        begun: Mark | tuple[int, bool] | None = None
        with transaction(self.engine) as connection:
            if mark is not None:
                records = _told(connection, name, _beyond(mark), most + 1)
                if goes_on(mark, records[0]["head"], records[0]["purged"]):
                    begun = mark
            if begun is None:
                records, snapshot = _begun(connection, name, since, most + 1)
                begun = since, snapshot
        observe_at = _aware(records[0]["observe_at"])
        return part(name, records[0]["head"], _rows(records), begun, most, observe_at)

    def has_any(self, name: str, kinds: Collection[str]) -> bool:
        """Whether there is a live row of one of these kinds."""
        query = (
            sa.select(RESOURCES.c.name)
            .join(DEPLOYMENTS, RESOURCES.c.deployment_id == DEPLOYMENTS.c.id)
            .where(
                DEPLOYMENTS.c.name == name,
                RESOURCES.c.kind.in_(kinds),
                RESOURCES.c.deleted.is_(False),
            )
            .limit(1)
        )
        with transaction(self.engine) as connection:
            return connection.execute(query).first() is not None

    def view(
        self, name: str, kinds: Collection[str] | None = None, granted: Iterable[str] = ()
    ) -> View:
        """A consistent view over a deployment, or over some kinds of its rows."""
        changes = self.changes(name)
        rows = [row for row in changes.rows if kinds is None or row.kind in kinds]
        return View(name, changes.head, rows, now=aware(utc_now()), granted=granted)

    def write(
        self, name: str, author: str, work: Callable[[Writer], T], act: Act | None = None
    ) -> Written[T]:
        """Run ``work`` inside one write; all that it changes gets one new revision, or nothing.

        act: what the audit says of who does it; left out: the core, in the author's name. ``work``
        may run several times (the database chose it as a deadlock's victim, or its connection broke
        before the end); what it raises rolls everything back.

        :raises NotFound: when there is no deployment of that name.
        """

        until = time.monotonic() + RECONNECT_SECONDS

        def again() -> bool:
            return time.monotonic() < until

        @retried
        def attempt() -> Written[T]:
            with self.turn, transaction(self.engine, again) as connection:
                writer = self._lock(connection, name, author, act)
                value = work(writer)
                rows = writer.changed
                return Written(value, writer.flush(), rows, writer.replaced, writer.lines)

        done: Written[T] = attempt()
        return done

    def purge(self, name: str, older_than: datetime.timedelta) -> int:
        """Forget tombstones older than that; readers from before get a snapshot.

        :return: how many were forgotten.
        """
        with self.turn, transaction(self.engine) as connection:
            writer = self._lock(connection, name, "purge", None)
            where = sa.and_(
                RESOURCES.c.deployment_id == writer.deployment_id,
                RESOURCES.c.deleted.is_(True),
                RESOURCES.c.updated_at < writer.now - older_than,
            )
            forgotten = connection.scalar(sa.select(sa.func.max(RESOURCES.c.revision)).where(where))
            if forgotten is None:
                return 0
            done = connection.execute(sa.delete(RESOURCES).where(where))
            mine = DEPLOYMENTS.c.id == writer.deployment_id
            purged = connection.execute(sa.select(DEPLOYMENTS.c.purged).where(mine)).scalar_one()
            horizon = later_horizon(purged, forgotten)
            connection.execute(sa.update(DEPLOYMENTS).where(mine).values(purged=horizon))
            return int(done.rowcount)

    def purge_audit(self, name: str, older_than: datetime.timedelta) -> Written[int]:
        """Forget lines of a deployment's audit from days that are that long over.

        :return: how many were forgotten; a checkpoint stands for them.
        """
        with self.turn, transaction(self.engine) as connection:
            writer = self._lock(connection, name, "purge", None)
            count = writer.forget_lines(older_than)
            return Written(count, writer.base_revision, [], {}, writer.lines)

    def purge_ended(self, older_than: datetime.timedelta) -> tuple[list[str], list[str]]:
        """Forget the audit of deployments that were deleted that long ago.

        :return: what it was, and what is wrong with others, which are kept.
        """
        with self.turn, transaction(self.engine) as connection:
            return audit_age.forget_ended(connection, self.vault, utc_now() - older_than)

    def _lock(self, connection: sa.Connection, name: str, author: str, act: Act | None) -> Writer:
        """Lock a deployment's row: an UPDATE that changes nothing does so in every database.

        Its audit is looked at: where it is not what a core left behind, that is said first of all.
        """
        connection.execute(
            sa.update(DEPLOYMENTS)
            .where(DEPLOYMENTS.c.name == name)
            .values(revision=DEPLOYMENTS.c.revision)
        )
        query = (
            sa.select(DEPLOYMENTS.c.id, DEPLOYMENTS.c.revision, AUDIT_CHAINS)
            .select_from(DEPLOYMENTS.outerjoin(AUDIT_CHAINS, audit.own_chain()))
            .where(DEPLOYMENTS.c.name == name)
        )
        record = connection.execute(query).one_or_none()
        if record is None:
            raise _unknown(name)
        ident, revision, chain, _name, lines, head, seal, *_rest = record
        if chain:
            found = Chain(chain, lines, head, name)
            wrong = audit.wrong(connection, self.vault, found, seal)
        else:
            found, wrong = _chain(connection, self.vault, name, ident), "it had no audit any more"
        writer = Writer(
            connection, ident, name, revision, author, utc_now(), self.vault, found,
            act or Act(Role.CORE, author, "", "write"),
        )  # fmt: skip
        if wrong:
            writer.mistrust(wrong)
        return writer


def _begun(
    connection: sa.Connection, name: str, since: int, most: int | None = None
) -> tuple[list[sa.RowMapping], bool]:
    """What changed after a revision, as _told() has it; and whether that is a snapshot."""
    snapshot = since <= 0
    records = _told(connection, name, is_told(RESOURCES.c.revision, since, snapshot), most)
    if not snapshot and needs_snapshot(since, records[0]["head"], records[0]["purged"]):
        snapshot = True
        records = _told(connection, name, is_told(RESOURCES.c.revision, since, snapshot), most)
    return records, snapshot


def _told(
    connection: sa.Connection, name: str, told: sa.ColumnElement[bool], most: int | None
) -> list[sa.RowMapping]:
    """A deployment's rows that are told, beside how the deployment stands.

    One statement, which sees one commit. What bounds the rows are plain numbers, so that every
    database finds them by their index, and reads no others.

    :return: one record without a row where there are none.
    :raises NotFound: when there is no deployment of that name.
    """
    row = RESOURCES.c
    query = (
        sa.select(
            DEPLOYMENTS.c.revision.label("head"),
            DEPLOYMENTS.c.purged,
            DEPLOYMENTS.c.observe_at,
            RESOURCES,
        )
        .select_from(
            DEPLOYMENTS.outerjoin(RESOURCES, sa.and_(row.deployment_id == DEPLOYMENTS.c.id, told))
        )
        .where(DEPLOYMENTS.c.name == name)
        .order_by(row.revision, row.kind, row.name)
        .limit(most)
    )
    records = list(connection.execute(query).mappings())
    if not records:
        raise _unknown(name)
    return records


def _rows(records: list[sa.RowMapping]) -> list[Row]:
    return [to_row(record) for record in records if record["kind"] is not None]


def _beyond(mark: Mark) -> sa.ColumnElement[bool]:
    """Rows that come after a mark; the first bound is for the index."""
    row = RESOURCES.c
    after = sa.or_(row.kind > mark.kind, sa.and_(row.kind == mark.kind, row.name > mark.name))
    return sa.and_(row.revision >= mark.revision, sa.or_(row.revision > mark.revision, after))


def _chain(connection: sa.Connection, vault: Vault, name: str, deployment_id: int) -> Chain:
    """A new chain, for a deployment whose chain somebody took away."""
    chain = Chain.new(name)
    audit.start(connection, vault, chain)
    connection.execute(
        sa.update(DEPLOYMENTS).where(DEPLOYMENTS.c.id == deployment_id).values(chain=chain.id)
    )
    return chain


def _unknown(name: str) -> NotFound:
    return NotFound(f"there is no deployment {name!r}; 'cnsmo-manage deployment list' shows all")


def _deployment(record: sa.RowMapping) -> Deployment:
    return Deployment(
        id=record["id"],
        name=record["name"],
        revision=record["revision"],
        purged=record["purged"],
        created_at=aware(record["created_at"]),
        observe_at=_aware(record["observe_at"]),
        suspected_since=_aware(record["suspected_since"]),
    )


def _aware(moment: datetime.datetime | None) -> datetime.datetime | None:
    return moment and aware(moment)
