# SPDX-License-Identifier: Apache-2.0
"""The audit: lines that are only ever added, in the transaction of the write that they tell of.

Each deployment has a chain of its own, which outlives it. A line's digest covers the line and the
digest of the one before; the chain's row holds the number and the digest of the last one, sealed.
Whoever adds lines holds the lock of the deployment's row.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from cnsmo.model.audit import BEGIN, CHECKPOINT, GENESIS, Act, AuditLine, Change, Role, canonical
from cnsmo.model.resource import AGENT, HOST, Row
from cnsmo.state.engine import aware
from cnsmo.state.secrets import new_id
from cnsmo.state.tables import AUDIT, AUDIT_CHAINS, RESOURCES
from cnsmo.state.vault import Vault

CORE = Act(Role.CORE, "core", "", "")
NOT_AUDITED = frozenset({AGENT})
"""Kinds of rows of which no line is written: how agents stand is reported all the time."""


@dataclasses.dataclass(frozen=True)
class Chain:
    """A deployment's audit, as far as its last line."""

    id: str
    lines: int
    head: str

    @classmethod
    def new(cls) -> Chain:
        """One without lines."""
        return cls(new_id("a"), 0, GENESIS)


def seal_of(vault: Vault, chain: Chain) -> str:
    """That a chain ends as it does, sealed."""
    return vault.seal(purpose(chain.id), ending(chain))


def purpose(chain: str) -> str:
    """What the seal of a chain is for."""
    return f"audit {chain}"


def ending(chain: Chain) -> str:
    """What is sealed of a chain's end."""
    return f"{chain.lines}:{chain.head}"


def start(connection: sa.Connection, deployment: str, chain: Chain) -> None:
    """Put the chain of a deployment that has none into the database."""
    values = {"lines": chain.lines, "head": chain.head, "seal": ""}
    connection.execute(sa.insert(AUDIT_CHAINS).values(id=chain.id, deployment=deployment, **values))


def told(rows: Iterable[Row], replaced: Mapping[tuple[str, str], Row]) -> list[Change]:
    """What the audit says of changed rows; replaced: as they were, by kind and name."""
    return [
        Change(
            row.kind,
            row.name,
            _body(replaced.get((row.kind, row.name))),
            None if row.deleted else row.body,
            _host_of(row),
        )
        for row in rows
        if row.kind not in NOT_AUDITED
    ]


def append(
    connection: sa.Connection,
    vault: Vault,
    chain: Chain,
    act: Act,
    now: datetime.datetime,
    revision: int,
    changes: Iterable[Change],
) -> list[AuditLine]:
    """Add a line for each change, and move the chain's end behind them."""
    lines: list[AuditLine] = []
    number, head = chain.lines, chain.head
    for change in changes:
        number += 1
        lines.append(_line(chain, number, act, now, revision, change).chained(head))
        head = lines[-1].hash
    if lines:
        connection.execute(sa.insert(AUDIT), [_values(line, now) for line in lines])
        _move(connection, vault, Chain(chain.id, number, head))
    return lines


def beginning(connection: sa.Connection, deployment_id: int, revision: int) -> Change:
    """What the first line says of a deployment that was there before its audit."""
    query = (
        sa.select(RESOURCES)
        .where(RESOURCES.c.deployment_id == deployment_id, RESOURCES.c.deleted.is_(False))
        .order_by(RESOURCES.c.kind, RESOURCES.c.name)
    )
    rows = [
        [record["kind"], record["name"], record["owner"], record["revision"], record["body"]]
        for record in connection.execute(query).mappings()
    ]
    state = hashlib.sha256(canonical(rows).encode()).hexdigest()
    return Change("audit", BEGIN, None, {"revision": revision, "rows": len(rows), "state": state})


def finish(connection: sa.Connection, chain: Chain, now: datetime.datetime) -> None:
    """Note that no line follows: the deployment is gone."""
    connection.execute(
        sa.update(AUDIT_CHAINS).where(AUDIT_CHAINS.c.id == chain.id).values(ended_at=now)
    )


def forget(
    connection: sa.Connection,
    vault: Vault,
    chain: Chain,
    now: datetime.datetime,
    older_than: datetime.timedelta,
    revision: int,
) -> int:
    """Drop lines from before a day of UTC, of which the last is that long ago.

    A checkpoint line says up to which line, and that line's digest: what is left stays verifiable.
    By whole days, so that there is at most one checkpoint a day.

    :return: how many were dropped.
    """
    limit = (now - older_than).replace(hour=0, minute=0, second=0, microsecond=0)
    of_chain = AUDIT.c.chain == chain.id
    oldest = connection.execute(
        sa.select(AUDIT.c.at).where(of_chain).order_by(AUDIT.c.number).limit(1)
    ).scalar_one_or_none()
    if oldest is None or oldest >= limit:
        return 0
    first_kept = connection.scalar(
        sa.select(sa.func.min(AUDIT.c.number)).where(of_chain, AUDIT.c.at >= limit)
    )
    last = chain.lines if first_kept is None else first_kept - 1
    digest = connection.scalar(sa.select(AUDIT.c.hash).where(of_chain, AUDIT.c.number == last))
    done = connection.execute(sa.delete(AUDIT).where(of_chain, AUDIT.c.number <= last))
    told = {"through": last, "hash": digest, "lines": done.rowcount}
    change = Change("audit", CHECKPOINT, None, told)
    append(connection, vault, chain, CORE.by(CHECKPOINT), now, revision, [change])
    return int(done.rowcount)


def forget_ended(connection: sa.Connection, before: datetime.datetime) -> list[str]:
    """Drop the chains of deployments that were deleted before that; returns what they were."""
    query = sa.select(AUDIT_CHAINS).where(AUDIT_CHAINS.c.ended_at < before)
    ended = connection.execute(query).all()
    for record in ended:
        connection.execute(sa.delete(AUDIT).where(AUDIT.c.chain == record.id))
        connection.execute(sa.delete(AUDIT_CHAINS).where(AUDIT_CHAINS.c.id == record.id))
    return [
        f"deployment={it.deployment} chain={it.id} lines={it.lines} head={it.head}" for it in ended
    ]


def to_lines(records: Sequence[sa.RowMapping]) -> list[AuditLine]:
    """Lines of the table as everybody else sees them."""
    return [AuditLine(**{**record, "at": aware(record["at"])}) for record in records]


def naive(moment: datetime.datetime) -> datetime.datetime:
    """A time as the database holds it."""
    return moment.astimezone(datetime.UTC).replace(tzinfo=None)


def _line(
    chain: Chain, number: int, act: Act, now: datetime.datetime, revision: int, change: Change
) -> AuditLine:
    return AuditLine(
        chain=chain.id,
        number=number,
        at=aware(now),
        role=act.role.value,
        who=act.who,
        source=act.source,
        action=act.action,
        kind=change.kind,
        name=change.name,
        host=change.host,
        revision=revision,
        before="" if change.before is None else canonical(change.before),
        after="" if change.after is None else canonical(change.after),
    )


def _body(row: Row | None) -> dict[str, Any] | None:
    return None if row is None else row.body


def _host_of(row: Row) -> str:
    """The host that a row is about; empty when it is about none."""
    if row.kind == HOST:
        return row.name
    _service, _dot, part = row.kind.partition(".")
    return row.name.rpartition("/")[2] if part in ("member", "adjustment") else ""


def _values(line: AuditLine, now: datetime.datetime) -> dict[str, object]:
    return {**line.model_dump(), "at": now}


def _move(connection: sa.Connection, vault: Vault, chain: Chain) -> None:
    connection.execute(
        sa.update(AUDIT_CHAINS)
        .where(AUDIT_CHAINS.c.id == chain.id)
        .values(lines=chain.lines, head=chain.head, seal=seal_of(vault, chain))
    )
