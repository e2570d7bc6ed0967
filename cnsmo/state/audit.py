# SPDX-License-Identifier: Apache-2.0
"""The audit: lines that are only ever added, in the transaction of the write that they tell of.

Each deployment has a chain of its own, which outlives it. A line's digest covers the line and the
digest of the one before; the chain's row holds the number and the digest of the last one, sealed.
Whoever adds lines holds the lock of the deployment's row, and looks first whether the end is the
one that was sealed: a core vouches for nothing that it did not find so. Where it is another, the
chain goes on with a line that says so, and that follows none.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from cnsmo.model.audit import BEGIN, BROKEN, GENESIS, Act, AuditLine, Change, Role, canonical
from cnsmo.model.resource import AGENT, HOST, Row
from cnsmo.state.engine import aware
from cnsmo.state.secrets import new_id
from cnsmo.state.tables import AUDIT, AUDIT_CHAINS, DEPLOYMENTS, RESOURCES
from cnsmo.state.vault import NotSealed, Vault

CORE = Act(Role.CORE, "core", "", "")
NOT_AUDITED = frozenset({AGENT})
"""Kinds of rows of which no line is written: how agents stand is reported all the time."""
STEP = 1000
"""Lines that are held in memory at a time."""


@dataclasses.dataclass(frozen=True)
class Chain:
    """A deployment's audit, as far as its last line."""

    id: str
    lines: int
    head: str
    deployment: str
    ended: bool = False

    @classmethod
    def new(cls, deployment: str) -> Chain:
        """One without lines."""
        return cls(new_id("a"), 0, GENESIS, deployment)

    def to(self, lines: int, head: str) -> Chain:
        """The same one, with another end."""
        return dataclasses.replace(self, lines=lines, head=head)


def seal_of(vault: Vault, chain: Chain) -> str:
    """That a chain ends as it does, sealed."""
    return vault.seal(purpose(chain.id), ending(chain))


def purpose(chain: str) -> str:
    """What the seal of a chain is for."""
    return f"audit {chain}"


def ending(chain: Chain) -> str:
    """What is sealed of a chain's end; also whose it is, so that none serves for another."""
    return f"{chain.lines}:{chain.head}:{chain.deployment}:{'ended' if chain.ended else 'open'}"


def is_sealed(vault: Vault, chain: Chain, seal: str) -> bool:
    """Whether a core sealed that a chain ends as it does."""
    try:
        return vault.open(purpose(chain.id), seal) == ending(chain)
    except NotSealed:
        return False


def unsealed(chain: Chain) -> str:
    """What is told of a chain that is not."""
    return f"that it ends with line {chain.lines} is not what a core sealed"


def own_chain() -> sa.ColumnElement[bool]:
    """Joins a deployment with the chain that is its own; a foreign or an ended one is not."""
    return sa.and_(
        AUDIT_CHAINS.c.id == DEPLOYMENTS.c.chain,
        AUDIT_CHAINS.c.deployment == DEPLOYMENTS.c.name,
        AUDIT_CHAINS.c.ended_at.is_(None),
    )


def start(connection: sa.Connection, vault: Vault, chain: Chain) -> None:
    """Put the chain of a deployment that has none into the database."""
    values = {"lines": chain.lines, "head": chain.head, "seal": seal_of(vault, chain)}
    connection.execute(
        sa.insert(AUDIT_CHAINS).values(id=chain.id, deployment=chain.deployment, **values)
    )


def adopt(connection: sa.Connection, vault: Vault) -> None:
    """Seal the chains without lines that a migration made; it has no key."""
    query = sa.select(AUDIT_CHAINS).where(AUDIT_CHAINS.c.seal == "", AUDIT_CHAINS.c.lines == 0)
    for record in connection.execute(query).all():
        _move(connection, vault, Chain(record.id, 0, GENESIS, record.deployment))


def wrong(connection: sa.Connection, vault: Vault, chain: Chain, seal: str) -> str:
    """What is wrong with the end of a chain, if anything.

    One line is read, however long it is: what stands before the end cannot be changed without
    audit verify seeing it, as long as nobody seals another end.
    """
    if not is_sealed(vault, chain, seal):
        return unsealed(chain)
    query = (
        sa.select(AUDIT.c.number, AUDIT.c.hash)
        .where(AUDIT.c.chain == chain.id, AUDIT.c.number >= chain.lines)
        .order_by(AUDIT.c.number)
        .limit(2)
    )
    found = [tuple(record) for record in connection.execute(query)]
    if found != ([(chain.lines, chain.head)] if chain.lines else []):
        return f"line {chain.lines} is not the last one, which a core had sealed"
    return ""


def broken(
    connection: sa.Connection,
    vault: Vault,
    chain: Chain,
    now: datetime.datetime,
    revision: int,
    told: Mapping[str, Any],
) -> list[AuditLine]:
    """Go on behind whatever is there, vouching for none of it.

    told: why, and from which state the deployment goes on.
    """
    last = connection.scalar(sa.select(sa.func.max(AUDIT.c.number)).where(_of(chain))) or 0
    found = {"lines": chain.lines, "head": chain.head}
    change = Change("audit", BROKEN, None, {**told, "found": found})
    end = chain.to(last, GENESIS)
    return append(connection, vault, end, CORE.by(BROKEN), now, revision, [change])


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
        _move(connection, vault, chain.to(number, head))
    return lines


def beginning(connection: sa.Connection, deployment_id: int, revision: int) -> Change:
    """What the first line says of a deployment that was there before its audit."""
    return Change("audit", BEGIN, None, standing(connection, deployment_id, revision))


def standing(connection: sa.Connection, deployment_id: int, revision: int) -> dict[str, Any]:
    """What a chain that follows nothing starts from: a digest of all live rows."""
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
    return {"revision": revision, "rows": len(rows), "state": state}


def finish(connection: sa.Connection, vault: Vault, chain: Chain, now: datetime.datetime) -> None:
    """Note that no line follows: the deployment is gone."""
    end = dataclasses.replace(chain, ended=True)
    connection.execute(
        sa.update(AUDIT_CHAINS)
        .where(AUDIT_CHAINS.c.id == chain.id)
        .values(ended_at=now, seal=seal_of(vault, end))
    )


def following(connection: sa.Connection, chain: str, through: int = 0) -> Iterator[AuditLine]:
    """The lines of a chain in their order, a few at a time; through: up to that one."""
    last = 0
    while True:
        query = (
            sa.select(AUDIT)
            .where(AUDIT.c.chain == chain, AUDIT.c.number > last)
            .order_by(AUDIT.c.number)
            .limit(STEP)
        )
        if through:
            query = query.where(AUDIT.c.number <= through)
        records = connection.execute(query).mappings().all()
        yield from to_lines(records)
        if len(records) < STEP:
            return
        last = int(records[-1]["number"])


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


def _of(chain: Chain) -> sa.ColumnElement[bool]:
    return AUDIT.c.chain == chain.id


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
