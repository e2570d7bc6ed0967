# SPDX-License-Identifier: Apache-2.0
"""Claims of periodic work: one core does it, and when it dies, another one does.

A row per piece of work says when it is due, and until when somebody has claimed it, by the
database's clock. A claim only saves work. All that is done under one is right, too, if two do it:
a process that stood still may wake up after its claim has passed on.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence

import sqlalchemy as sa
from oslo_db import exception as db_exc

from cnsmo.state.clock import read_clock
from cnsmo.state.engine import retried, transaction
from cnsmo.state.store import Store
from cnsmo.state.tables import CLAIMS, DEPLOYMENTS

LONG_AGO = datetime.datetime(2000, 1, 1)  # noqa: DTZ001  # as the tables have it
EVERYWHERE = ""
"""Where work is done that belongs to no deployment."""


@dataclasses.dataclass(frozen=True)
class Claim:
    """A piece of work that is ours for a while.

    ``deployment``: its name; EVERYWHERE where it is none's. ``number``: no two claims of one piece
    of work have the same.
    """

    name: str
    work: str
    deployment: str
    number: int


class Claims:
    """The claims of one core process."""

    def __init__(self, store: Store, owner: str, seconds: float) -> None:
        """owner: a name that no other process bears. seconds: after which a claim passes on."""
        self._store = store
        self._owner = owner
        self._life = datetime.timedelta(seconds=seconds)

    def provide(self, of_each: Sequence[str], of_all: Sequence[str]) -> None:
        """Make the rows that are missing. of_each: works of each deployment; of_all: of none."""
        for work in of_each:
            name = _name_of(work)
            query = (
                sa.select(DEPLOYMENTS.c.id)
                .select_from(DEPLOYMENTS.outerjoin(CLAIMS, CLAIMS.c.name == name))
                .where(CLAIMS.c.name.is_(None))
            )
            with transaction(self._store.engine) as connection:
                missing = list(connection.scalars(query))
            for deployment_id in missing:
                self._insert(f"{work}/{deployment_id}", deployment_id)
        with transaction(self._store.engine) as connection:
            known = set(
                connection.scalars(sa.select(CLAIMS.c.name).where(CLAIMS.c.name.in_(of_all)))
            )
        for work in of_all:
            if work not in known:
                self._insert(work, None)

    @retried
    def take(self, works: Sequence[str], limit: int) -> list[Claim]:
        """Claim work that is due and nobody's, the longest due first."""
        with self._store.turn, transaction(self._store.engine) as connection:
            if connection.dialect.name == "sqlite":  # its write lock, before anything is read
                connection.execute(sa.update(CLAIMS).where(sa.false()).values(owner=""))
            now = read_clock(connection)
            kinds = sa.or_(
                *(CLAIMS.c.name == work for work in works),
                *(CLAIMS.c.name.startswith(f"{work}/", autoescape=True) for work in works),
            )
            free = sa.or_(CLAIMS.c.until.is_(None), CLAIMS.c.until <= now)
            query = (
                sa.select(CLAIMS)
                .where(CLAIMS.c.due_at <= now, free, kinds)
                .order_by(CLAIMS.c.due_at, CLAIMS.c.name)
                .limit(limit)
                .with_for_update(skip_locked=True)
            )
            found = list(connection.execute(query))
            if not found:
                return []
            connection.execute(
                sa.update(CLAIMS)
                .where(CLAIMS.c.name.in_([record.name for record in found]))
                .values(owner=self._owner, until=now + self._life, number=CLAIMS.c.number + 1)
            )
            names = _names(connection, [record.deployment_id for record in found])
        return [
            Claim(
                record.name,
                record.name.partition("/")[0],
                names.get(record.deployment_id, EVERYWHERE),
                record.number + 1,
            )
            for record in found
        ]

    @retried
    def holds(self, claim: Claim) -> bool:
        """Whether it is ours still; then it is ours for the whole time again."""
        with self._store.turn, transaction(self._store.engine) as connection:
            values = {"until": read_clock(connection) + self._life}
            return bool(connection.execute(self._mine(claim).values(values)).rowcount)

    @retried
    def done(self, claim: Claim, after: float) -> None:
        """Give a claim back; due again after that many seconds. Nothing if it passed on."""
        with self._store.turn, transaction(self._store.engine) as connection:
            due_at = read_clock(connection) + datetime.timedelta(seconds=after)
            connection.execute(self._mine(claim).values(until=None, due_at=due_at))

    def _mine(self, claim: Claim) -> sa.Update:
        return sa.update(CLAIMS).where(
            CLAIMS.c.name == claim.name,
            CLAIMS.c.owner == self._owner,
            CLAIMS.c.number == claim.number,
        )

    @retried
    def _insert(self, name: str, deployment_id: int | None) -> None:
        values = {"owner": "", "number": 0, "due_at": LONG_AGO, "deployment_id": deployment_id}
        try:
            with self._store.turn, transaction(self._store.engine) as connection:
                connection.execute(sa.insert(CLAIMS).values(name=name, **values))
        except (db_exc.DBDuplicateEntry, db_exc.DBReferenceError):
            return  # another core was quicker; or the deployment was deleted meanwhile


def _name_of(work: str) -> sa.ColumnElement[str]:
    return sa.literal(f"{work}/") + sa.cast(DEPLOYMENTS.c.id, sa.String(20))


def _names(connection: sa.Connection, ids: Sequence[int | None]) -> dict[int | None, str]:
    query = sa.select(DEPLOYMENTS.c.id, DEPLOYMENTS.c.name).where(DEPLOYMENTS.c.id.in_(ids))
    return {record.id: record.name for record in connection.execute(query)}
