# SPDX-License-Identifier: Apache-2.0
"""Who was removed, and which of the others have done their part: they applied the revision."""

from __future__ import annotations

import dataclasses
import datetime

import sqlalchemy as sa

from cnsmo.state.engine import aware, transaction, utc_now
from cnsmo.state.store import Store
from cnsmo.state.tables import AGENTS, DEPLOYMENTS, IDENTITIES


@dataclasses.dataclass(frozen=True)
class Removal:
    """A host that was removed in ``revision``. ``confirmed_at``: when the last of the others was
    known to have applied it; until then ``waiting`` are those that have not."""

    id: str
    host: str
    removed_at: datetime.datetime
    revision: int
    confirmed_at: datetime.datetime | None
    waiting: tuple[str, ...]


class Removals:
    """Removed hosts are remembered in the table of identities."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def of(self, deployment: str) -> list[Removal]:
        """All removals of a deployment, the newest last."""
        query = (
            _REMOVED.join_from(IDENTITIES, DEPLOYMENTS)
            .where(DEPLOYMENTS.c.name == deployment)
            .order_by(IDENTITIES.c.removed_revision)
        )
        with transaction(self._store.engine) as connection:
            return [_removal(connection, record) for record in connection.execute(query)]

    def confirm(self) -> None:
        """Note for each removal that all others have applied by now when that was."""
        with transaction(self._store.engine) as connection:
            pending = _REMOVED.where(IDENTITIES.c.confirmed_at.is_(None))
            for record in connection.execute(pending).all():
                if not _waiting(connection, record):
                    connection.execute(
                        sa.update(IDENTITIES)
                        .where(IDENTITIES.c.id == record.id, IDENTITIES.c.confirmed_at.is_(None))
                        .values(confirmed_at=utc_now())
                    )


_REMOVED = sa.select(IDENTITIES).where(IDENTITIES.c.removed_revision.is_not(None))


def _removal(connection: sa.Connection, record: sa.Row[tuple[object, ...]]) -> Removal:
    confirmed = record.confirmed_at
    return Removal(
        id=record.id,
        host=record.host,
        removed_at=aware(record.revoked_at),
        revision=record.removed_revision,
        confirmed_at=confirmed and aware(confirmed),
        waiting=() if confirmed else _waiting(connection, record),
    )


def _waiting(connection: sa.Connection, record: sa.Row[tuple[object, ...]]) -> tuple[str, ...]:
    """Hosts with an agent that has not applied the removal, whether it lives or not."""
    query = (
        sa.select(AGENTS.c.host)
        .distinct()
        .where(
            AGENTS.c.deployment_id == record.deployment_id,
            AGENTS.c.applied_revision < record.removed_revision,
        )
        .order_by(AGENTS.c.host)
    )
    return tuple(connection.scalars(query))
