# SPDX-License-Identifier: Apache-2.0
"""A whole deployment in a file, and from the file into another database, of whatever kind.

What is sealed stays sealed in the file, with the key of the database that it comes from; who
restores opens it with that key, and seals it with the other database's. What that key does not open
is carried over as it is: nobody could use it before, and nobody can afterwards.
"""

from __future__ import annotations

import dataclasses
import datetime
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from oslo_db import exception as db_exc

from cnsmo import __version__
from cnsmo.model.audit import Act, Change
from cnsmo.model.errors import Conflict, InvalidRequest, NotFound
from cnsmo.state import audit, schema, sealing
from cnsmo.state.audit import Chain
from cnsmo.state.backup_file import BackupReader, BackupWriter, Head
from cnsmo.state.engine import aware, snapshot, transaction, utc_now
from cnsmo.state.tables import (
    AGENTS,
    AUDIT,
    AUDIT_CHAINS,
    CLAIMS,
    DEPLOYMENTS,
    IDENTITIES,
    JOIN_TOKENS,
    RESOURCES,
    SCHEMA_FLOOR,
    VAULT,
)
from cnsmo.state.vault import NotSealed, Vault
from cnsmo.state.writer import Writer

LEAP = 10**9
"""How far a restored deployment's revision is ahead of the backup's. The core that it comes from
may have gone on, and no agent's replica must be ahead, or it would take news for old ones."""
BATCH = 500
OF_DEPLOYMENT = (RESOURCES, IDENTITIES, JOIN_TOKENS, AGENTS)
"""Tables whose rows belong to a deployment, each after those that it needs."""
LEFT_OUT = frozenset(
    {
        *(AGENTS.c[it] for it in ("heartbeat_at", "observation", "observed_at", "reported_at")),
        *(AGENTS.c[it] for it in ("late_at", "heard_since", "downed_at", "downs")),
        *(DEPLOYMENTS.c[it] for it in ("suspected_since", "suspected_at")),
    }
)
"""What agents tell anew, and cores find anew, as soon as they are heard."""
NOT_OF_DEPLOYMENTS = frozenset({VAULT, CLAIMS, SCHEMA_FLOOR})
"""Tables of which a backup holds nothing."""


@dataclasses.dataclass(frozen=True)
class Saved:
    """What a file holds."""

    head: Head
    records: int


@dataclasses.dataclass(frozen=True)
class Restored:
    """What was put into the database. ``opened``: values that were sealed anew; ``unopened``: that
    no key opens, so that whose they are must join, or be made, anew."""

    head: Head
    revision: int
    hosts: int
    opened: int
    unopened: int


def save(engine: sa.Engine, vault: Vault, deployment: str, path: Path) -> Saved:
    """Write a deployment, as it is in one moment, to a file that is not there yet.

    :raises NotFound: when there is no such deployment.
    :raises Conflict: when there is such a file.
    """
    with snapshot(engine) as connection:
        query = sa.select(DEPLOYMENTS).where(DEPLOYMENTS.c.name == deployment)
        record = connection.execute(query).mappings().one_or_none()
        if record is None:
            raise NotFound(
                f"there is no deployment {deployment!r}; 'cnsmo-manage deployment list' shows all"
            )
        head = Head(
            deployment=deployment,
            revision=record["revision"],
            schema_version=schema.newest(),
            release=__version__,
            database=engine.dialect.name,
            made_at=aware(utc_now()),
        )
        with BackupWriter(path, vault) as file:
            file.head(head)
            for table, values in _records(connection, record):
                file.record(table.name, _plain(table, values))
    return Saved(head, file.records)


def restore(
    engine: sa.Engine, vault: Vault, file: BackupReader, source: Vault, act: Act, dry: bool = False
) -> Restored:
    """Put a deployment into a database that does not have it, in one transaction.

    source: has the key that the file was sealed with. dry: find out whether it could be done.

    :raises Conflict: when the database has the deployment, or something of it, already.
    :raises InvalidRequest: when the file is from a release whose tables are others.
    """
    _check_schema(file.head)
    try:
        with transaction(engine) as connection:
            done = _Restoring(connection, vault, source, file).run(act)
            if dry:
                raise _Undone
    except _Undone:
        pass
    except db_exc.DBDuplicateEntry as exc:
        raise _taken(file.head.deployment) from exc
    return done


def _taken(deployment: str) -> Conflict:
    return Conflict(
        f"this database has a deployment {deployment!r} already, or hosts or tokens of it: nothing "
        "is written over"
    )


class _Undone(Exception):
    """Rolls back what was only tried."""


class _Restoring:
    """One restore, in its transaction."""

    def __init__(
        self, connection: sa.Connection, vault: Vault, source: Vault, file: BackupReader
    ) -> None:
        self._connection = connection
        self._vault = vault
        self._source = source
        self._file = file
        self._now = utc_now()
        self._deployment_id = 0
        self._chain: Chain | None = None
        self._has_lines = False
        """Whether the database has the audit's lines already."""
        self._hosts = self._opened = self._unopened = 0

    def run(self, act: Act) -> Restored:
        head = self._file.head
        takers: dict[str, Callable[[list[dict[str, Any]]], None]] = {
            AUDIT_CHAINS.name: self._take_chain,
            DEPLOYMENTS.name: self._take_deployment,
            AUDIT.name: self._take_lines,
            **{table.name: self._taker(table) for table in OF_DEPLOYMENT},
        }
        for name, records in itertools.groupby(self._file.records(), key=lambda it: it[0]):
            table, take = _known(name), takers[name]
            for batch in _batches(values for _name, values in records):
                take([_typed(table, values) for values in batch])
        revision = head.revision + LEAP
        self._tell(act, revision)
        return Restored(head, revision, self._hosts, self._opened, self._unopened)

    def _take_chain(self, records: list[dict[str, Any]]) -> None:
        (record,) = records
        chain = Chain(record["id"], record["lines"], record["head"], record["deployment"])
        self._chain = chain
        query = sa.select(AUDIT_CHAINS).where(AUDIT_CHAINS.c.id == record["id"])
        there = self._connection.execute(query).one_or_none()
        if there is not None and there.ended_at is None:
            raise _taken(there.deployment)
        if there is None:
            sealed = self._sealed(audit.purpose(record["id"]), record["seal"])
            values = {**record, "seal": sealed, "ended_at": None}
            self._connection.execute(sa.insert(AUDIT_CHAINS).values(**values))
            return
        self._follows(chain)
        ended = Chain(there.id, there.lines, there.head, there.deployment, ended=True)
        if wrong := audit.wrong(self._connection, self._vault, ended, there.seal):
            raise Conflict(
                f"the audit of {self._file.head.deployment!r} in this database was changed by no "
                f"core ({wrong}): nothing is put behind it"
            )
        self._has_lines, self._chain = True, dataclasses.replace(ended, ended=False)
        self._connection.execute(
            sa.update(AUDIT_CHAINS)
            .where(AUDIT_CHAINS.c.id == there.id)
            .values(ended_at=None, seal=audit.seal_of(self._vault, self._chain))
        )

    def _follows(self, saved: Chain) -> None:
        """The deployment was deleted here: its audit goes on from where it ended, if it is that."""
        query = sa.select(AUDIT.c.hash).where(
            AUDIT.c.chain == saved.id, AUDIT.c.number == saved.lines
        )
        if saved.lines and self._connection.scalar(query) != saved.head:
            raise Conflict(
                f"this database has an audit of {self._file.head.deployment!r} that is not the one "
                "of the backup: nothing is written over"
            )

    def _take_deployment(self, records: list[dict[str, Any]]) -> None:
        (record,) = records
        if self._chain is None:  # somebody had taken it away
            self._chain = Chain.new(record["name"])
            audit.start(self._connection, self._vault, self._chain)
        revision = self._file.head.revision + LEAP
        values = {
            **record,
            "revision": revision,
            "purged": revision,
            "observe_at": None,
            "chain": self._chain.id,
        }
        made = self._connection.execute(sa.insert(DEPLOYMENTS).values(**values))
        self._deployment_id = int(made.inserted_primary_key[0])  # type: ignore[index]

    def _take_lines(self, records: list[dict[str, Any]]) -> None:
        if not self._has_lines:
            self._connection.execute(sa.insert(AUDIT), records)

    def _taker(self, table: sa.Table) -> Callable[[list[dict[str, Any]]], None]:
        sealed = [it for it in sealing.COLUMNS if it.table is table]

        def take(records: list[dict[str, Any]]) -> None:
            for record in records:
                record["deployment_id"] = self._deployment_id
                for column in sealed:
                    purpose = column.purpose(record["id"])
                    record[column.column.name] = self._sealed(purpose, record[column.column.name])
                if table is AGENTS:  # heard now, so that they have time to find this core
                    record |= {"heartbeat_at": self._now}
                self._hosts += table is IDENTITIES and record["revoked_at"] is None
            self._connection.execute(sa.insert(table), records)

        return take

    def _sealed(self, purpose: str, value: str) -> str:
        if not value:
            return value
        try:
            anew = self._vault.seal(purpose, self._source.open(purpose, value))
        except NotSealed:
            self._unopened += 1
            return value
        self._opened += 1
        return anew

    def _tell(self, act: Act, revision: int) -> None:
        """A line of the audit."""
        head = self._file.head
        writer = Writer(
            self._connection, self._deployment_id, head.deployment, revision, act.author,
            self._now, self._vault, self._chain or Chain.new(head.deployment), act,
        )  # fmt: skip
        told = {
            "revision": revision,
            "backup": {
                "made_at": head.made_at.isoformat(),
                "revision": head.revision,
                "sha256": self._file.end.sha256,
            },
        }
        writer.note(Change("deployment", head.deployment, None, told))
        writer.flush()


def _check_schema(head: Head) -> None:
    need = schema.newest()
    if head.schema_version > need:
        raise InvalidRequest(
            f"the backup is from a release with schema {head.schema_version}, this one has {need}: "
            "restore it with that release, or a later one"
        )


def _records(
    connection: sa.Connection, deployment: sa.RowMapping
) -> Iterator[tuple[sa.Table, sa.RowMapping]]:
    """All rows of a deployment, its audit first."""
    chain = deployment["chain"]
    for record in _all(connection, AUDIT_CHAINS, AUDIT_CHAINS.c.id == chain):
        yield AUDIT_CHAINS, record
    yield DEPLOYMENTS, deployment
    for record in _all(connection, AUDIT, AUDIT.c.chain == chain):
        yield AUDIT, record
    for table in OF_DEPLOYMENT:
        for record in _all(connection, table, table.c.deployment_id == deployment["id"]):
            yield table, record


def _all(
    connection: sa.Connection, table: sa.Table, where: sa.ColumnElement[bool]
) -> Iterator[sa.RowMapping]:
    """In the order of their keys; a batch is in memory at a time."""
    keys = [column for column in table.primary_key.columns if column.name != "deployment_id"]
    query = sa.select(table).where(where).order_by(*keys).limit(BATCH)
    after: sa.ColumnElement[bool] = sa.true()
    while True:
        found = connection.execute(query.where(after)).mappings().all()
        yield from found
        if len(found) < BATCH:
            return
        last = found[-1]
        after = sa.tuple_(*keys) > sa.tuple_(*(sa.literal(last[it.name], it.type) for it in keys))


def _kept(table: sa.Table) -> list[sa.Column[Any]]:
    """The columns that are in a backup: none that only one database knows."""
    own = {"id"} if table is DEPLOYMENTS else {"deployment_id"}
    return [it for it in table.columns if it.name not in own and it not in LEFT_OUT]


def _plain(table: sa.Table, values: sa.RowMapping) -> dict[str, Any]:
    found = {column.name: values[column.name] for column in _kept(table)}
    return {
        name: value.isoformat() if isinstance(value, datetime.datetime) else value
        for name, value in found.items()
    }


def _typed(table: sa.Table, values: dict[str, Any]) -> dict[str, Any]:
    """As the database takes them; a column that is newer than the backup is empty.

    :raises InvalidRequest: when that cannot be, or the backup has a column that is not there.
    """
    columns = {column.name: column for column in _kept(table)}
    missing = {name for name, it in columns.items() if name not in values and not it.nullable}
    if missing or values.keys() - columns.keys():
        raise InvalidRequest(
            f"the backup's table {table.name} is not this release's: restore it with the release "
            "that made it, and then upgrade ('cnsmo-manage db upgrade')"
        )
    return {name: _value(column, values.get(name)) for name, column in columns.items()}


def _value(column: sa.Column[Any], value: Any) -> Any:
    if isinstance(value, str) and isinstance(column.type, sa.DateTime):
        return datetime.datetime.fromisoformat(value)
    return value


def _known(name: str) -> sa.Table:
    tables = {it.name: it for it in (DEPLOYMENTS, AUDIT_CHAINS, AUDIT, *OF_DEPLOYMENT)}
    if name not in tables:
        raise InvalidRequest(
            f"the backup has a table {ascii(name)}, which this release does not know: restore it "
            "with the release that made it, or a later one"
        )
    return tables[name]


def _batches(values: Iterable[dict[str, Any]]) -> Iterator[Sequence[dict[str, Any]]]:
    running = iter(values)
    while batch := list(itertools.islice(running, BATCH)):
        yield batch
