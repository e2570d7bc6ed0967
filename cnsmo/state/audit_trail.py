# SPDX-License-Identifier: Apache-2.0
"""Reading the audit: pages of lines for whoever looks, and the proof that nobody changed it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import sqlalchemy as sa

from cnsmo.model.audit import CHECKPOINT, AuditLine, AuditPage, AuditQuery
from cnsmo.model.errors import NotFound
from cnsmo.state import audit
from cnsmo.state.audit import Chain
from cnsmo.state.audit_walk import Walk
from cnsmo.state.engine import snapshot, transaction
from cnsmo.state.tables import AUDIT, AUDIT_CHAINS, DEPLOYMENTS
from cnsmo.state.vault import Vault

PAGE_LINES = 500
PAGE_CHARACTERS = 1_000_000
"""Of what changed. A page has at least one line, whatever its length."""


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
        with snapshot(self._engine) as connection:
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
        ended = record.ended_at is not None
        end = Chain(chain, record.lines, record.head, record.deployment, ended)
        walk = Walk()
        for line in audit.following(connection, chain):
            walk.step(line)
        sealed = audit.is_sealed(self._vault, end, record.seal)
        problems = [*walk.ending(end), *([] if sealed else [audit.unsealed(end)])]
        return Finding(
            chain, record.deployment, ended, walk.first, end.lines, end.head, tuple(problems)
        )


def _has(connection: sa.Connection, chains: list[str], head: str) -> bool:
    """Whether a chain has a line with that digest, or had it as the last one that it forgot."""
    of_ours = AUDIT.c.chain.in_(chains)
    query = sa.select(AUDIT.c.number).where(of_ours, AUDIT.c.hash == head).limit(1)
    if connection.execute(query).first() is not None:
        return True
    checkpoints = sa.select(AUDIT.c.after).where(of_ours, AUDIT.c.action == CHECKPOINT)
    return any(f'"hash":"{head}"' in after for after in connection.scalars(checkpoints))


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
        .select_from(DEPLOYMENTS.outerjoin(AUDIT_CHAINS, audit.own_chain()))
        .where(AUDIT_CHAINS.c.id.is_(None))
    )
    if deployment is not None:
        query = query.where(DEPLOYMENTS.c.name == deployment)
    return list(connection.scalars(query))


def _worse(finding: Finding, problem: str) -> Finding:
    return dataclasses.replace(finding, problems=(*finding.problems, problem))


def _never(deployment: str) -> NotFound:
    return NotFound(f"there is no audit of a deployment {deployment!r}")
