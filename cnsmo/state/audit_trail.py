# SPDX-License-Identifier: Apache-2.0
"""Reading the audit: pages of lines for whoever looks, and the proof that nobody changed it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator

import sqlalchemy as sa

from cnsmo.model.audit import CHECKPOINT, GENESIS, AuditLine, AuditPage, AuditQuery
from cnsmo.model.errors import NotFound
from cnsmo.state import audit
from cnsmo.state.audit import Chain
from cnsmo.state.engine import transaction
from cnsmo.state.tables import AUDIT, AUDIT_CHAINS, DEPLOYMENTS
from cnsmo.state.vault import NotSealed, Vault

PAGE_LINES = 500
PAGE_CHARACTERS = 1_000_000
"""Of what changed. A page has at least one line, whatever its length."""
STEP = 1000
"""Lines that verify() holds in memory at a time."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """How a chain stands: what is wrong with it, if anything; its first and last line."""

    chain: str
    deployment: str
    ended: bool
    first: int
    lines: int
    head: str
    problems: tuple[str, ...]


class AuditTrail:
    """The tables of the audit; nothing is written."""

    def __init__(self, engine: sa.Engine, vault: Vault) -> None:
        self._engine = engine
        self._vault = vault

    def page(self, deployment: str, query: AuditQuery) -> AuditPage:
        """Lines of a deployment's audit, the newest first: as many as fit into one answer.

        Of a deployment that was deleted: of the last one of that name.

        :raises NotFound: when there was never one.
        """
        with transaction(self._engine) as connection:
            chain = _chain_of(connection, deployment)
            where = [AUDIT.c.chain == chain, *_conditions(query)]
            limit = min(query.limit, PAGE_LINES)
            wanted = sa.select(AUDIT).where(*where).order_by(AUDIT.c.number.desc()).limit(limit + 1)
            lines: list[AuditLine] = []
            characters = 0
            for record in connection.execute(wanted).mappings():
                characters += len(record["before"]) + len(record["after"])
                if len(lines) == limit or (lines and characters > PAGE_CHARACTERS):
                    return AuditPage(lines=lines, more=True)
                lines += audit.to_lines([record])
        return AuditPage(lines=lines, more=False)

    def verify(self, deployment: str | None = None, head: str = "") -> list[Finding]:
        """Follow the chains of a deployment's audit, or all, from their first line to their end.

        head: a digest that was printed earlier, which one of the chains must still have.

        :raises NotFound: when there was never a deployment of that name.
        """
        query = sa.select(AUDIT_CHAINS.c.id).order_by(AUDIT_CHAINS.c.deployment, AUDIT_CHAINS.c.id)
        if deployment is not None:
            query = query.where(AUDIT_CHAINS.c.deployment == deployment)
        with _snapshot(self._engine) as connection:
            chains = list(connection.scalars(query))
            found = [self._verify(connection, chain) for chain in chains]
            lost = _without_chain(connection, deployment)
            known = not head or _has(connection, chains, head)
        if deployment is not None and not found and not lost:
            raise _never(deployment)
        found += [Finding("", it, False, 0, 0, "", ("it has no audit any more",)) for it in lost]
        if not known:
            found = [_worse(it, f"no line has the digest {head}") for it in found]
        return found

    def _verify(self, connection: sa.Connection, chain: str) -> Finding:
        query = sa.select(AUDIT_CHAINS).where(AUDIT_CHAINS.c.id == chain)
        record = connection.execute(query).one()
        end = Chain(chain, record.lines, record.head)
        walk = _Walk()
        for line in _lines(connection, chain):
            walk.step(line)
        problems = [*walk.ending(end), *self._seal_of(record.seal, end)]
        return Finding(
            chain, record.deployment, record.ended_at is not None, walk.first, end.lines, end.head,
            tuple(problems),
        )  # fmt: skip

    def _seal_of(self, seal: str, end: Chain) -> list[str]:
        if end.lines == 0 and not seal:
            return []
        try:
            if self._vault.open(audit.purpose(end.id), seal) == audit.ending(end):
                return []
        except NotSealed:
            pass
        return [f"that it ends with line {end.lines} is not what a core sealed"]


class _Walk:
    """Follows a chain, and notes what is wrong."""

    def __init__(self) -> None:
        self.first = 0
        self._last = 0
        self._head: str | None = GENESIS
        """The digest of the last line; None where what stands before the next one is unknown."""
        self._problems: list[str] = []
        self._oldest: AuditLine | None = None
        """The first line, where older ones were forgotten."""
        self._checkpoint = (0, "")
        """The newest: up to which line older ones were forgotten, and that line's digest."""

    def step(self, line: AuditLine) -> None:
        """The next line."""
        if self.first == 0:
            self._begin(line)
        if line.number != self._last + 1:
            self._problems.append(f"{_range(self._last + 1, line.number - 1)} missing")
            self._head = None
        if self._head is not None and line.hash != line.digest(self._head):
            self._problems.append(f"line {line.number} was altered, or follows one that was")
        elif line.action == CHECKPOINT:
            told = json.loads(line.after)
            self._checkpoint = int(told["through"]), str(told["hash"])
        self._last, self._head = line.number, line.hash

    def _begin(self, line: AuditLine) -> None:
        self.first = line.number
        if line.number > 1:
            self._oldest, self._last, self._head = line, line.number - 1, None

    def ending(self, end: Chain) -> list[str]:
        """What is wrong with the chain, given where it ends."""
        return [*self._at_the_beginning(), *self._problems, *self._at_the_end(end)]

    def _at_the_beginning(self) -> list[str]:
        """Older lines may be gone only if a checkpoint says so, and the first one follows them."""
        if self._oldest is None:
            return []
        through, digest = self._checkpoint
        if through != self.first - 1:
            return [f"{_range(through + 1, self.first - 1)} missing, of which no checkpoint tells"]
        if self._oldest.hash != self._oldest.digest(digest):
            return [f"line {self.first} was altered, or the checkpoint that stands for older ones"]
        return []

    def _at_the_end(self, end: Chain) -> list[str]:
        if self._last < end.lines:
            return [f"{_range(self._last + 1, end.lines)} missing at its end"]
        if self._last > end.lines:
            return [f"{_range(end.lines + 1, self._last)} behind its end"]
        if end.lines and self._head != end.head:
            return [f"line {end.lines} is not the one that it ends with"]
        return []


@contextlib.contextmanager
def _snapshot(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that sees the database as it is in one moment, whatever cores write."""
    if engine.dialect.name != "sqlite":  # where each transaction does
        engine = engine.execution_options(isolation_level="REPEATABLE READ")
    with transaction(engine) as connection:
        yield connection


def _has(connection: sa.Connection, chains: list[str], head: str) -> bool:
    """Whether a chain has a line with that digest, or had it as the last one that it forgot."""
    of_ours = AUDIT.c.chain.in_(chains)
    query = sa.select(AUDIT.c.number).where(of_ours, AUDIT.c.hash == head).limit(1)
    if connection.execute(query).first() is not None:
        return True
    checkpoints = sa.select(AUDIT.c.after).where(of_ours, AUDIT.c.action == CHECKPOINT)
    return any(json.loads(after)["hash"] == head for after in connection.scalars(checkpoints))


def _lines(connection: sa.Connection, chain: str) -> Iterator[AuditLine]:
    """All lines, in their order."""
    last = 0
    while True:
        query = (
            sa.select(AUDIT)
            .where(AUDIT.c.chain == chain, AUDIT.c.number > last)
            .order_by(AUDIT.c.number)
            .limit(STEP)
        )
        records = connection.execute(query).mappings().all()
        yield from audit.to_lines(records)
        if len(records) < STEP:
            return
        last = int(records[-1]["number"])


def _conditions(query: AuditQuery) -> Iterator[sa.ColumnElement[bool]]:
    for name in ("host", "who", "kind", "action", "revision"):
        wanted = getattr(query, name)
        if wanted is not None:
            yield AUDIT.c[name] == wanted
    if query.since is not None:
        yield AUDIT.c.at >= audit.naive(query.since)
    if query.below is not None:
        yield AUDIT.c.number < query.below


def _chain_of(connection: sa.Connection, deployment: str) -> str:
    living = sa.select(DEPLOYMENTS.c.chain).where(DEPLOYMENTS.c.name == deployment)
    chain = connection.scalar(living)
    if chain is None:
        ended = (
            sa.select(AUDIT_CHAINS.c.id)
            .where(AUDIT_CHAINS.c.deployment == deployment)
            .order_by(AUDIT_CHAINS.c.ended_at.desc())
            .limit(1)
        )
        chain = connection.scalar(ended)
    if chain is None:
        raise _never(deployment)
    return str(chain)


def _without_chain(connection: sa.Connection, deployment: str | None) -> list[str]:
    """Deployments whose chain somebody took away."""
    query = (
        sa.select(DEPLOYMENTS.c.name)
        .select_from(DEPLOYMENTS.outerjoin(AUDIT_CHAINS, AUDIT_CHAINS.c.id == DEPLOYMENTS.c.chain))
        .where(AUDIT_CHAINS.c.id.is_(None))
    )
    if deployment is not None:
        query = query.where(DEPLOYMENTS.c.name == deployment)
    return list(connection.scalars(query))


def _worse(finding: Finding, problem: str) -> Finding:
    return dataclasses.replace(finding, problems=(*finding.problems, problem))


def _range(first: int, last: int) -> str:
    return f"line {first} is" if first == last else f"lines {first} to {last} are"


def _never(deployment: str) -> NotFound:
    return NotFound(f"there is no audit of a deployment {deployment!r}")
