# SPDX-License-Identifier: Apache-2.0
"""Who is silent, and what was made of it: late, down, and the core's suspicion of itself.

All times are the database's. What is written here no agent compiles from; that an agent is down is
a row, which whoever says so writes in the same transaction.
"""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

import sqlalchemy as sa

from cnsmo.model.lifecycle import State
from cnsmo.model.resource import AGENT
from cnsmo.model.silence import Silence
from cnsmo.state.clock import DatabaseNow, read_clock
from cnsmo.state.engine import transaction
from cnsmo.state.liveness import age
from cnsmo.state.store import Store
from cnsmo.state.tables import AGENTS, DEPLOYMENTS, RESOURCES
from cnsmo.state.writer import Writer


@dataclasses.dataclass(frozen=True)
class Picture:
    """What is to be judged of a deployment. ``suspected``: seconds since the core last suspected
    itself because of it; None: it does not."""

    agents: tuple[Silence, ...]
    hosts: int
    suspected: float | None


class Silences:
    """The columns of agents and deployments that tell of silence."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def picture(self, deployment: str, late_after: float) -> Picture | None:
        """Who is silent for longer than that, and who was late before; None: no such deployment."""
        with transaction(self._store.engine) as connection:
            query = sa.select(
                DEPLOYMENTS.c.id, DEPLOYMENTS.c.suspected_at, DatabaseNow().label("now")
            ).where(DEPLOYMENTS.c.name == deployment)
            found = connection.execute(query).one_or_none()
            if found is None:
                return None
            hosts = connection.scalar(
                sa.select(sa.func.count(AGENTS.c.host.distinct())).where(
                    AGENTS.c.deployment_id == found.id
                )
            )
            before = found.now - datetime.timedelta(seconds=late_after)
            agents = tuple(
                Silence(
                    record.host,
                    record.service,
                    State(record.body["state"]) if record.body else None,
                    age(found.now, record.heartbeat_at),
                    record.late_at is not None,
                )
                for record in connection.execute(_silent_query(found.id, before))
            )
        suspected = age(found.now, found.suspected_at) if found.suspected_at else None
        return Picture(agents, hosts or 0, suspected)

    def note(self, deployment: str, late_after: float, also_late: bool) -> None:
        """Write down who is heard again, and, if wanted, who is late."""
        with self._store.turn, transaction(self._store.engine) as connection:
            now = read_clock(connection)
            before = now - datetime.timedelta(seconds=late_after)
            mine = AGENTS.c.deployment_id.in_(
                sa.select(DEPLOYMENTS.c.id).where(DEPLOYMENTS.c.name == deployment)
            )
            connection.execute(
                sa.update(AGENTS)
                .where(mine, AGENTS.c.late_at.is_not(None), AGENTS.c.heartbeat_at > before)
                .values(late_at=None, heard_since=now)
            )
            if also_late:
                connection.execute(
                    sa.update(AGENTS)
                    .where(mine, AGENTS.c.late_at.is_(None), AGENTS.c.heartbeat_at <= before)
                    .values(late_at=now)
                )

    def suspect(self, deployment: str, suspicious: bool) -> bool:
        """Write down that the core suspects itself, or that it ceases to.

        :return: whether that is new.
        """
        mine = DEPLOYMENTS.c.name == deployment
        since = DEPLOYMENTS.c.suspected_since
        values = {"suspected_since": DatabaseNow() if suspicious else None}
        if not suspicious:
            values["suspected_at"] = None
        with self._store.turn, transaction(self._store.engine) as connection:
            changes = since.is_(None) if suspicious else since.is_not(None)
            done = connection.execute(sa.update(DEPLOYMENTS).where(mine, changes).values(**values))
            if suspicious:
                connection.execute(
                    sa.update(DEPLOYMENTS).where(mine).values(suspected_at=DatabaseNow())
                )
            return bool(done.rowcount)


@dataclasses.dataclass(frozen=True)
class Record:
    """What is remembered of an agent: how often it was down lately, for how many seconds it was
    heard without a gap since, and when its last report was made."""

    downs: int = 0
    heard_for: float = 0.0
    reported_at: datetime.datetime | None = None


def record_of(connection: sa.Connection, deployment_id: int, host: str, service: str) -> Record:
    """What is remembered of an agent; of one that is not known, nothing."""
    found = connection.execute(_one(deployment_id, host, service)).one_or_none()
    return Record() if found is None else recorded(found, read_clock(connection))


def recorded(found: sa.Row[Any], now: datetime.datetime) -> Record:
    """What a row of the table of agents remembers. now: by the database's clock."""
    heard = 0.0
    if found.late_at is None and found.heard_since is not None:
        heard = age(now, found.heard_since)
    return Record(found.downs or 0, heard, found.reported_at)


def downs(writer: Writer, host: str, service: str, after: float, window: float) -> int:
    """Note that an agent is down, inside the write that says so; it may have spoken meanwhile.

    :return: how often it was down within the last ``window`` seconds, this time counted; 0: it was
        heard within the last ``after`` seconds, and nothing is noted.
    """
    connection = writer.connection
    now = read_clock(connection)
    record = connection.execute(_one(writer.deployment_id, host, service)).one_or_none()
    if record is None or age(now, record.heartbeat_at) < after:
        return 0
    lately = record.downed_at is not None and age(now, record.downed_at) < window
    count = (record.downs or 0) * lately + 1
    connection.execute(
        sa.update(AGENTS)
        .where(
            AGENTS.c.deployment_id == writer.deployment_id,
            AGENTS.c.host == host,
            AGENTS.c.service == service,
        )
        .values(downs=count, downed_at=now, late_at=now)
    )
    return int(count)


def _one(deployment_id: int, host: str, service: str) -> sa.Select[tuple[object, ...]]:
    return sa.select(AGENTS).where(
        AGENTS.c.deployment_id == deployment_id,
        AGENTS.c.host == host,
        AGENTS.c.service == service,
    )


def _silent_query(deployment_id: int, before: datetime.datetime) -> sa.Select[tuple[object, ...]]:
    row = sa.and_(
        RESOURCES.c.deployment_id == AGENTS.c.deployment_id,
        RESOURCES.c.kind == AGENT,
        RESOURCES.c.name == AGENTS.c.host + "/" + AGENTS.c.service,
        RESOURCES.c.deleted.is_(False),
    )
    return (
        sa.select(
            AGENTS.c.host,
            AGENTS.c.service,
            AGENTS.c.heartbeat_at,
            AGENTS.c.late_at,
            RESOURCES.c.body,
        )
        .select_from(AGENTS.outerjoin(RESOURCES, row))
        .where(
            AGENTS.c.deployment_id == deployment_id,
            sa.or_(AGENTS.c.heartbeat_at <= before, AGENTS.c.late_at.is_not(None)),
        )
        .order_by(AGENTS.c.host, AGENTS.c.service)
    )
