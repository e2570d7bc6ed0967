# SPDX-License-Identifier: Apache-2.0
"""Forgetting the audit by age: what does not verify stays; a checkpoint stands for what goes."""

from __future__ import annotations

import dataclasses
import datetime

import sqlalchemy as sa

from cnsmo.model.audit import BROKEN, CHECKPOINT, AuditLine, Change
from cnsmo.state import audit
from cnsmo.state.audit import Chain
from cnsmo.state.audit_walk import Walk, checkpoint_of
from cnsmo.state.engine import aware
from cnsmo.state.tables import AUDIT, AUDIT_CHAINS
from cnsmo.state.vault import Vault


@dataclasses.dataclass(frozen=True)
class Forgotten:
    """``count`` of lines; ``lines``: the checkpoint; ``problem``: why nothing was forgotten."""

    count: int = 0
    lines: tuple[AuditLine, ...] = ()
    problem: str = ""


def forget(
    connection: sa.Connection,
    vault: Vault,
    chain: Chain,
    now: datetime.datetime,
    older_than: datetime.timedelta,
    revision: int,
) -> Forgotten:
    """Drop lines from before a day of UTC, of which the last is that long ago.

    A checkpoint line says up to which line, and that line's digest: what is left stays verifiable.
    By whole days, so that there is at most one checkpoint a day. Ages are told by the newest line,
    if this core's clock is ahead of it. A chain that was found broken is kept whole.
    """
    of_chain = AUDIT.c.chain == chain.id
    limit = _limit(connection, chain, now, older_than)
    last = _last_before(connection, chain, limit)
    if not last or _is_broken(connection, chain):
        return Forgotten()
    walk = Walk(_newest_checkpoint(connection, chain))
    digest = ""
    for line in audit.following(connection, chain.id, last + 1):
        walk.step(line)
        digest = line.hash if line.number == last else digest
    if problems := walk.problems():
        return Forgotten(problem=problems[0])
    done = connection.execute(sa.delete(AUDIT).where(of_chain, AUDIT.c.number <= last))
    told = {"through": last, "hash": digest, "lines": done.rowcount}
    change = Change("audit", CHECKPOINT, None, told)
    act = audit.CORE.by(CHECKPOINT)
    lines = audit.append(connection, vault, chain, act, now, revision, [change])
    return Forgotten(int(done.rowcount), tuple(lines))


def forget_ended(
    connection: sa.Connection, vault: Vault, before: datetime.datetime
) -> tuple[list[str], list[str]]:
    """Drop the chains of deployments that were deleted before that.

    :return: what they were, and what is wrong with others, which are kept.
    """
    query = sa.select(AUDIT_CHAINS).where(AUDIT_CHAINS.c.ended_at < before)
    told, problems = [], []
    for record in connection.execute(query).all():
        chain = Chain(record.id, record.lines, record.head, record.deployment, ended=True)
        what = f"deployment={chain.deployment} chain={chain.id} lines={chain.lines}"
        wrong = audit.wrong(connection, vault, chain, record.seal)
        if wrong or not _ended_before(connection, chain, before):
            problems.append(f"{what}: {wrong or 'it did not end when it is said to have'}")
            continue
        connection.execute(sa.delete(AUDIT).where(AUDIT.c.chain == chain.id))
        connection.execute(sa.delete(AUDIT_CHAINS).where(AUDIT_CHAINS.c.id == chain.id))
        told.append(f"{what} head={chain.head}")
    return told, problems


def _limit(
    connection: sa.Connection, chain: Chain, now: datetime.datetime, older_than: datetime.timedelta
) -> datetime.datetime:
    newest = connection.scalar(
        sa.select(AUDIT.c.at).where(AUDIT.c.chain == chain.id, AUDIT.c.number == chain.lines)
    )
    limit = min(now, newest or now) - older_than
    return limit.replace(hour=0, minute=0, second=0, microsecond=0)


def _last_before(connection: sa.Connection, chain: Chain, limit: datetime.datetime) -> int:
    """Number of the last line that may go; 0: none."""
    of_chain = AUDIT.c.chain == chain.id
    first, oldest = connection.execute(
        sa.select(AUDIT.c.number, AUDIT.c.at).where(of_chain).order_by(AUDIT.c.number).limit(1)
    ).one_or_none() or (0, limit)
    if oldest >= limit:
        return 0
    kept = connection.scalar(
        sa.select(sa.func.min(AUDIT.c.number)).where(of_chain, AUDIT.c.at >= limit)
    )
    last = chain.lines if kept is None else kept - 1
    return last if last >= first else 0


def _is_broken(connection: sa.Connection, chain: Chain) -> bool:
    query = sa.select(AUDIT.c.number).where(AUDIT.c.chain == chain.id, AUDIT.c.action == BROKEN)
    return connection.execute(query.limit(1)).first() is not None


def _newest_checkpoint(connection: sa.Connection, chain: Chain) -> tuple[int, str]:
    query = (
        sa.select(AUDIT)
        .where(AUDIT.c.chain == chain.id, AUDIT.c.action == CHECKPOINT)
        .order_by(AUDIT.c.number.desc())
        .limit(1)
    )
    for line in audit.to_lines(connection.execute(query).mappings().all()):
        return checkpoint_of(line)
    return 0, ""


def _ended_before(connection: sa.Connection, chain: Chain, before: datetime.datetime) -> bool:
    """Whether its last line, whose digest is sealed, says so."""
    query = (
        sa.select(AUDIT)
        .where(AUDIT.c.chain == chain.id, AUDIT.c.number >= chain.lines - 1)
        .order_by(AUDIT.c.number)
    )
    *earlier, last = audit.to_lines(connection.execute(query).mappings().all())
    former = earlier[0].hash if earlier else ""
    return last.hash == last.digest(former) and last.at < aware(before)
