# SPDX-License-Identifier: Apache-2.0
"""Signs of life, applied revisions and observations: frequent, and outside the revisioned rows."""

from __future__ import annotations

import dataclasses
import datetime
import time
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from cnsmo.state.clock import DatabaseNow, read_clock
from cnsmo.state.engine import transaction, utc_now
from cnsmo.state.store import Store
from cnsmo.state.tables import AGENTS, DEPLOYMENTS, RESOURCES, TIME
from cnsmo.state.writer import Writer

DUE_SECONDS = 5.0
"""For so long is remembered what agents should have applied by now."""
FEW_AGENTS = 100
SECONDS_PER_AGENT = 0.0003
"""For so long, times the agents of a deployment, is remembered what all of them have applied; of
few it is not."""


@dataclasses.dataclass(frozen=True)
class Sign:
    """What the core last heard of an agent."""

    host: str
    service: str
    applied_revision: int
    heartbeat_at: datetime.datetime
    observation: dict[str, Any] | None
    observed_at: datetime.datetime | None
    read_at: datetime.datetime = dataclasses.field(compare=False)
    """When this was read, by the same clock."""

    @property
    def silent(self) -> float:
        """Seconds since it was last heard."""
        return age(self.read_at, self.heartbeat_at)

    @property
    def observed(self) -> float | None:
        """Seconds since its last observation arrived."""
        return age(self.read_at, self.observed_at) if self.observed_at else None


@dataclasses.dataclass(frozen=True)
class _Confirmed:
    """By service, what all have applied; it counts until then, by the monotonic clock."""

    revisions: Mapping[str, int]
    until: float


class Liveness:
    """The table of agents. All times are the database's."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._dues: dict[int, tuple[int, float]] = {}
        """By deployment: what _due() found, and when (of the monotonic clock)."""
        self._confirmed: dict[int, _Confirmed] = {}
        """By deployment: what confirmed() found."""

    def observed(
        self,
        connection: sa.Connection,
        deployment_id: int,
        host: str,
        service: str,
        revision: int,
        working: bool,
        observation: dict[str, Any] | None,
        made: datetime.datetime | None = None,
    ) -> None:
        """Record a report of an agent, whether it is known already or not.

        working: whether others should wait for what it has applied. made: when it was made; None:
        now. One that comes late says no more than that.
        """
        values: dict[str, Any] = {"working": working}
        if observation is not None:
            values |= {"observation": observation, "observed_at": DatabaseNow()}
        if made is not None:
            values["reported_at"] = not_ahead(made)
        if not self._touch(connection, deployment_id, host, service, revision, values, made):
            connection.execute(
                sa.insert(AGENTS).values(
                    deployment_id=deployment_id,
                    host=host,
                    service=service,
                    applied_revision=revision,
                    heartbeat_at=DatabaseNow(),
                    **values,
                )
            )

    def _touch(
        self,
        connection: sa.Connection,
        deployment_id: int,
        host: str,
        service: str,
        revision: int,
        more: Mapping[str, Any],
        made: datetime.datetime | None,
    ) -> bool:
        heard: Any = DatabaseNow()
        applied: Any = revision
        if made is not None:  # never back: two may arrive in the other order
            newer = AGENTS.c.heartbeat_at <= made
            heard = sa.case((newer, not_ahead(made)), else_=AGENTS.c.heartbeat_at)
            applied = sa.case((newer, revision), else_=AGENTS.c.applied_revision)
        done = connection.execute(
            sa.update(AGENTS)
            .where(
                AGENTS.c.deployment_id == deployment_id,
                AGENTS.c.host == host,
                AGENTS.c.service == service,
            )
            .values(applied_revision=applied, heartbeat_at=heard, **more)
        )
        return bool(done.rowcount)

    def signs(self, deployment: str) -> dict[tuple[str, str], Sign]:
        """All signs of life of a deployment, by host and service."""
        query = (
            sa.select(AGENTS).join_from(AGENTS, DEPLOYMENTS).where(DEPLOYMENTS.c.name == deployment)
        )
        with transaction(self._store.engine) as connection:
            now = read_clock(connection)
            return {
                (record.host, record.service): Sign(
                    record.host,
                    record.service,
                    record.applied_revision,
                    record.heartbeat_at,
                    record.observation,
                    record.observed_at,
                    now,
                )
                for record in connection.execute(query)
            }

    def heard(self, within: datetime.timedelta) -> set[str]:
        """Deployments of which some host was heard within that time."""
        with transaction(self._store.engine) as connection:
            query = (
                sa.select(DEPLOYMENTS.c.name)
                .join_from(AGENTS, DEPLOYMENTS)
                .where(AGENTS.c.heartbeat_at >= read_clock(connection) - within)
                .distinct()
            )
            return {row.name for row in connection.execute(query)}

    def vanished(self, deployment: str, before: datetime.timedelta) -> list[str]:
        """Hosts of a deployment of which no agent was heard since that long ago."""
        with transaction(self._store.engine) as connection:
            query = (
                sa.select(AGENTS.c.host)
                .join_from(AGENTS, DEPLOYMENTS)
                .where(DEPLOYMENTS.c.name == deployment)
                .group_by(AGENTS.c.host)
                .having(sa.func.max(AGENTS.c.heartbeat_at) < read_clock(connection) - before)
            )
            return list(connection.scalars(query))

    def confirmed(
        self, deployment_id: int, alive_within: datetime.timedelta, patience: datetime.timedelta
    ) -> dict[str, int]:
        """By service: the revision that all its agents that live, work and follow have applied.

        patience: who has not applied what was written that long ago is not waited for. Of many
        agents it is found now and then: each of them asks with every heartbeat.
        """
        known = self._confirmed.get(deployment_id)
        if known is not None and time.monotonic() < known.until:
            return dict(known.revisions)
        with transaction(self._store.engine) as connection:
            due = self._due(connection, deployment_id, patience)
            since = read_clock(connection) - alive_within
            query = (
                sa.select(
                    AGENTS.c.service,
                    sa.func.min(AGENTS.c.applied_revision).label("revision"),
                    sa.func.count().label("agents"),
                )
                .where(_at_work(deployment_id, since), AGENTS.c.applied_revision >= due)
                .group_by(AGENTS.c.service)
            )
            found = list(connection.execute(query))
        revisions = {record.service: record.revision for record in found}
        agents = sum(record.agents for record in found)
        kept = SECONDS_PER_AGENT * agents if agents > FEW_AGENTS else 0.0
        self._confirmed[deployment_id] = _Confirmed(revisions, time.monotonic() + kept)
        return dict(revisions)

    def behind(
        self, deployment: str, alive_within: datetime.timedelta, patience: datetime.timedelta
    ) -> dict[tuple[str, str], int]:
        """Who is not waited for, by host and service: the revision that it should have applied."""
        found = self._store.deployment(deployment)
        with transaction(self._store.engine) as connection:
            due = self._due(connection, found.id, patience)
            since = read_clock(connection) - alive_within
            query = sa.select(AGENTS.c.host, AGENTS.c.service).where(
                _at_work(found.id, since), AGENTS.c.applied_revision < due
            )
            return {(it.host, it.service): due for it in connection.execute(query)}

    def _due(
        self, connection: sa.Connection, deployment_id: int, patience: datetime.timedelta
    ) -> int:
        """The newest revision that was written that long ago and stands; agents have it by now.

        Looked up now and then only: agents ask for it with every heartbeat.
        """
        known, looked = self._dues.get(deployment_id, (0, -DUE_SECONDS))
        if time.monotonic() - looked < min(DUE_SECONDS, patience.total_seconds()):
            return known
        rows = RESOURCES.c
        query = (
            sa.select(rows.revision)
            .where(rows.deployment_id == deployment_id, rows.updated_at <= utc_now() - patience)
            .order_by(rows.revision.desc())
            .limit(1)
        )
        due = connection.scalar(query) or 0
        self._dues[deployment_id] = (due, time.monotonic())
        return int(due)

    def look(self, deployment: str) -> None:
        """Note that an operator wants fresh observations from now on."""
        with transaction(self._store.engine) as connection:
            connection.execute(
                sa.update(DEPLOYMENTS)
                .where(DEPLOYMENTS.c.name == deployment)
                .values(observe_at=DatabaseNow())
            )


def _at_work(deployment_id: int, since: datetime.datetime) -> sa.ColumnElement[bool]:
    """Of agents that were heard since then, and say that they work."""
    return sa.and_(
        AGENTS.c.deployment_id == deployment_id,
        AGENTS.c.heartbeat_at >= since,
        AGENTS.c.working.is_(True),
    )


def forget(writer: Writer, host: str) -> None:
    """Drop the signs of life of a host, inside a write."""
    writer.connection.execute(
        sa.delete(AGENTS).where(
            AGENTS.c.deployment_id == writer.deployment_id, AGENTS.c.host == host
        )
    )


def is_vanished(writer: Writer, host: str, before: datetime.timedelta) -> bool:
    """Whether none of a host's agents was heard since that long ago, inside a write."""
    query = sa.select(sa.func.count()).where(
        AGENTS.c.deployment_id == writer.deployment_id,
        AGENTS.c.host == host,
        AGENTS.c.heartbeat_at >= read_clock(writer.connection) - before,
    )
    return writer.connection.execute(query).scalar_one() == 0


def not_ahead(
    moment: datetime.datetime | sa.ColumnElement[datetime.datetime],
) -> sa.ColumnElement[datetime.datetime]:
    """A moment that somebody else tells; now, if it is still to come."""
    told = sa.literal(moment, TIME) if isinstance(moment, datetime.datetime) else moment
    return sa.case((told < DatabaseNow(), told), else_=DatabaseNow())


def age(now: datetime.datetime, moment: datetime.datetime) -> float:
    """Seconds since a moment; none if the database's clock was set back."""
    return max(0.0, (now - moment).total_seconds())
