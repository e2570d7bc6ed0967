# SPDX-License-Identifier: Apache-2.0
"""How all deployments stand, counted by the database: as many rows as there are states."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence

import sqlalchemy as sa

from cnsmo.model.lifecycle import GONE, State
from cnsmo.model.resource import AGENT
from cnsmo.state.engine import transaction, utc_now
from cnsmo.state.tables import AGENTS, DEPLOYMENTS, IDENTITIES, RESOURCES

REVISIONS = (0, 1, 5, 20, 100, 1000)
"""Upper bounds of how many revisions an agent is behind."""
SECONDS = (5, 10, 20, 40, 60, 300)
"""Upper bounds of the age of an agent's last sign of life."""
NO_STATE = "unknown"


@dataclasses.dataclass(frozen=True)
class Crowd:
    """Agents of a service that are in one state; of each bound, how many are below it."""

    deployment: str
    service: str
    state: str
    count: int
    behind: tuple[int, ...]
    behind_sum: int
    silent: tuple[int, ...]

    @property
    def gone(self) -> bool:
        """Whether nobody waits for them."""
        return self.state in GONE


@dataclasses.dataclass(frozen=True)
class Census:
    """Revision and number of hosts of each deployment; its agents."""

    revisions: dict[str, int]
    hosts: dict[str, int]
    crowds: tuple[Crowd, ...]


def take(engine: sa.Engine) -> Census:
    """Count."""
    with transaction(engine) as connection:
        hosts = connection.execute(
            sa.select(DEPLOYMENTS.c.name, DEPLOYMENTS.c.revision, sa.func.count(IDENTITIES.c.id))
            .select_from(
                DEPLOYMENTS.outerjoin(
                    IDENTITIES,
                    sa.and_(
                        IDENTITIES.c.deployment_id == DEPLOYMENTS.c.id,
                        IDENTITIES.c.revoked_at.is_(None),
                    ),
                )
            )
            .group_by(DEPLOYMENTS.c.name, DEPLOYMENTS.c.revision)
        ).all()
        crowds = connection.execute(_crowds(utc_now())).all()
    return Census(
        {name: revision for name, revision, _count in hosts},
        {name: count for name, _revision, count in hosts},
        tuple(_crowd(record) for record in crowds),
    )


def _crowds(now: datetime.datetime) -> sa.Select[tuple[object, ...]]:
    behind = DEPLOYMENTS.c.revision - AGENTS.c.applied_revision
    below = [_count(behind <= bound) for bound in REVISIONS]
    heard = AGENTS.c.heartbeat_at
    since = [_count(heard >= now - datetime.timedelta(seconds=it)) for it in SECONDS]
    state = RESOURCES.c.body["state"].as_string()
    sums = [sa.func.count(), sa.func.sum(behind), *below, *since]
    return (
        sa.select(DEPLOYMENTS.c.name, AGENTS.c.service, state.label("state"), *sums)
        .select_from(AGENTS.join(DEPLOYMENTS).outerjoin(RESOURCES, _row_of_agent()))
        .group_by(DEPLOYMENTS.c.name, AGENTS.c.service, state)
    )


def _row_of_agent() -> sa.ColumnElement[bool]:
    return sa.and_(
        RESOURCES.c.deployment_id == AGENTS.c.deployment_id,
        RESOURCES.c.kind == AGENT,
        RESOURCES.c.name == AGENTS.c.host + "/" + AGENTS.c.service,
        RESOURCES.c.deleted.is_(False),
    )


def _count(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    return sa.func.sum(sa.case((condition, 1), else_=0))


def _crowd(record: Sequence[object]) -> Crowd:
    name, service, state, count, behind_sum, *sums = record
    below = tuple(int(str(it)) for it in sums)
    middle = len(REVISIONS)
    known = State(str(state)) if state is not None else NO_STATE
    return Crowd(
        str(name), str(service), str(known), int(str(count)), below[:middle],
        int(str(behind_sum)), below[middle:],
    )  # fmt: skip
