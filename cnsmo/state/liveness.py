# SPDX-License-Identifier: Apache-2.0
"""Signs of life, applied revisions and observations: frequent, and outside the revisioned rows."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from cnsmo.state.engine import aware, transaction, utc_now
from cnsmo.state.store import Store
from cnsmo.state.tables import AGENTS, DEPLOYMENTS
from cnsmo.state.writer import Writer


@dataclasses.dataclass(frozen=True)
class Sign:
    """What the core last heard of an agent."""

    host: str
    service: str
    applied_revision: int
    heartbeat_at: datetime.datetime
    observation: dict[str, Any] | None
    observed_at: datetime.datetime | None


class Liveness:
    """The table of agents."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def beat(self, deployment_id: int, host: str, applied: Mapping[str, int]) -> list[str]:
        """Record a heartbeat of a host's agents.

        :return: services of which the core knows no agent at that host.
        """
        with transaction(self._store.engine) as connection:
            return [
                service
                for service, revision in sorted(applied.items())
                if not self._touch(connection, deployment_id, host, service, revision, {})
            ]

    def observed(
        self,
        connection: sa.Connection,
        deployment_id: int,
        host: str,
        service: str,
        revision: int,
        working: bool,
        observation: dict[str, Any] | None,
    ) -> None:
        """Record a report of an agent, whether it is known already or not.

        working: whether others should wait for what it has applied.
        """
        values: dict[str, Any] = {"working": working}
        if observation is not None:
            values |= {"observation": observation, "observed_at": utc_now()}
        if not self._touch(connection, deployment_id, host, service, revision, values):
            connection.execute(
                sa.insert(AGENTS).values(
                    deployment_id=deployment_id,
                    host=host,
                    service=service,
                    applied_revision=revision,
                    heartbeat_at=utc_now(),
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
    ) -> bool:
        done = connection.execute(
            sa.update(AGENTS)
            .where(
                AGENTS.c.deployment_id == deployment_id,
                AGENTS.c.host == host,
                AGENTS.c.service == service,
            )
            .values(applied_revision=revision, heartbeat_at=utc_now(), **more)
        )
        return bool(done.rowcount)

    def signs(self, deployment: str) -> dict[tuple[str, str], Sign]:
        """All signs of life of a deployment, by host and service."""
        query = (
            sa.select(AGENTS).join_from(AGENTS, DEPLOYMENTS).where(DEPLOYMENTS.c.name == deployment)
        )
        with transaction(self._store.engine) as connection:
            return {
                (record.host, record.service): Sign(
                    record.host,
                    record.service,
                    record.applied_revision,
                    aware(record.heartbeat_at),
                    record.observation,
                    aware(record.observed_at) if record.observed_at else None,
                )
                for record in connection.execute(query)
            }

    def silent(self, before: datetime.timedelta) -> list[tuple[str, str, str]]:
        """Agents that were heard last longer than that ago: deployment, host, service."""
        query = (
            sa.select(DEPLOYMENTS.c.name, AGENTS.c.host, AGENTS.c.service)
            .join_from(AGENTS, DEPLOYMENTS)
            .where(AGENTS.c.heartbeat_at < utc_now() - before)
        )
        with transaction(self._store.engine) as connection:
            return [(row.name, row.host, row.service) for row in connection.execute(query)]

    def head(self, deployment_id: int) -> tuple[int, datetime.datetime | None]:
        """The head revision, and when operators last looked."""
        query = sa.select(DEPLOYMENTS.c.revision, DEPLOYMENTS.c.observe_at).where(
            DEPLOYMENTS.c.id == deployment_id
        )
        with transaction(self._store.engine) as connection:
            revision, looked = connection.execute(query).one()
        return revision, aware(looked) if looked else None

    def confirmed(self, deployment_id: int, alive_within: datetime.timedelta) -> dict[str, int]:
        """By service: the revision that all its agents that live and work have applied."""
        query = (
            sa.select(AGENTS.c.service, sa.func.min(AGENTS.c.applied_revision))
            .where(
                AGENTS.c.deployment_id == deployment_id,
                AGENTS.c.heartbeat_at >= utc_now() - alive_within,
                AGENTS.c.working.is_(True),
            )
            .group_by(AGENTS.c.service)
        )
        with transaction(self._store.engine) as connection:
            return {record.service: record[1] for record in connection.execute(query)}

    def look(self, deployment: str) -> None:
        """Note that an operator wants fresh observations from now on."""
        with transaction(self._store.engine) as connection:
            connection.execute(
                sa.update(DEPLOYMENTS)
                .where(DEPLOYMENTS.c.name == deployment)
                .values(observe_at=utc_now())
            )


def forget(writer: Writer, host: str) -> None:
    """Drop the signs of life of a host, inside a write."""
    writer.connection.execute(
        sa.delete(AGENTS).where(
            AGENTS.c.deployment_id == writer.deployment_id, AGENTS.c.host == host
        )
    )


def is_silent(writer: Writer, host: str, service: str, before: datetime.timedelta) -> bool:
    """Whether an agent is silent still, inside a write (it may have spoken meanwhile)."""
    query = sa.select(AGENTS.c.heartbeat_at).where(
        AGENTS.c.deployment_id == writer.deployment_id,
        AGENTS.c.host == host,
        AGENTS.c.service == service,
    )
    last = writer.connection.execute(query).scalar_one_or_none()
    return last is not None and last < writer.now - before
