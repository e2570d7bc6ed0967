# SPDX-License-Identifier: Apache-2.0
"""Who speaks: hosts' identities on the bus, proven by the secret that join gave them."""

from __future__ import annotations

import dataclasses
import datetime

import sqlalchemy as sa

from cnsmo.model.errors import Conflict, Denied, Removed
from cnsmo.state.engine import transaction, utc_now
from cnsmo.state.secrets import derived, digest, matches, new_id
from cnsmo.state.store import Store
from cnsmo.state.tables import DEPLOYMENTS, IDENTITIES
from cnsmo.state.writer import Writer


@dataclasses.dataclass(frozen=True)
class Identity:
    """A host that proved who it is."""

    id: str
    deployment_id: int
    deployment: str
    host: str


@dataclasses.dataclass(frozen=True)
class Issued:
    """A new identity, or a known one with a new secret; ``repeated``: the join came again."""

    id: str
    secret: str
    repeated: bool


class Identities:
    """The table of identities."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def authenticate(self, ident: str, secret: str) -> Identity:
        """Who the bearer of this secret is.

        :raises Denied: for an unknown id and a wrong secret alike.
        :raises Removed: for the right secret of a host that was removed.
        """
        query = (
            sa.select(IDENTITIES, DEPLOYMENTS.c.name.label("deployment"))
            .join_from(IDENTITIES, DEPLOYMENTS)
            .where(IDENTITIES.c.id == ident)
        )
        with transaction(self._store.engine) as connection:
            record = connection.execute(query).one_or_none()
        proven = matches(secret, record.secret_hash if record else digest(""))
        if not proven or record is None:
            raise Denied()
        if record.revoked_at is not None:
            raise Removed(f"host {record.host!r} was removed from its deployment")
        return Identity(record.id, record.deployment_id, record.deployment, record.host)

    def everybody(self, farewell: float) -> tuple[set[str], set[str]]:
        """Ids of all living hosts of all deployments, and of those that are just leaving.

        farewell: seconds for which a removed host is leaving.
        """
        limit = utc_now() - datetime.timedelta(seconds=farewell)
        revoked = IDENTITIES.c.revoked_at
        query = sa.select(IDENTITIES.c.id, revoked).where(
            sa.or_(revoked.is_(None), revoked > limit)
        )
        with transaction(self._store.engine) as connection:
            records = connection.execute(query).all()
        living = {record.id for record in records if record.revoked_at is None}
        return living, {record.id for record in records} - living

    def living(self, deployment: str) -> dict[str, str]:
        """Ids of a deployment's hosts by host name."""
        query = (
            sa.select(IDENTITIES.c.host, IDENTITIES.c.id)
            .join_from(IDENTITIES, DEPLOYMENTS)
            .where(DEPLOYMENTS.c.name == deployment, IDENTITIES.c.revoked_at.is_(None))
        )
        with transaction(self._store.engine) as connection:
            return {record.host: record.id for record in connection.execute(query)}


def repeated(writer: Writer, host: str, nonce: str) -> Issued | None:
    """The identity that an earlier try of the same join made: its answer was lost on its way.

    The secret is derived from the nonce, so that tries that overtake each other all agree.
    """
    record = _living(writer, host)
    if record is None or not matches(nonce, record.nonce_hash):
        return None
    return Issued(record.id, derived(nonce, record.id), repeated=True)


def issue(writer: Writer, host: str, nonce: str) -> Issued:
    """Make an identity for a host, inside a write.

    :raises Conflict: when a living host bears that name.
    """
    if _living(writer, host) is not None:
        raise Conflict(
            f"a host named {host!r} is already in deployment {writer.deployment!r}: choose another "
            f"name ([host] name), or remove the old one first ('cnsmo-manage host remove {host}')"
        )
    ident = new_id("h")
    secret = derived(nonce, ident)
    writer.connection.execute(
        sa.insert(IDENTITIES).values(
            id=ident,
            deployment_id=writer.deployment_id,
            host=host,
            secret_hash=digest(secret),
            nonce_hash=digest(nonce),
            joined_at=writer.now,
        )
    )
    return Issued(ident, secret, repeated=False)


def revoke(writer: Writer, host: str) -> bool:
    """Make a host's secret worthless, inside a write.

    :return: whether there was such a host.
    """
    done = writer.connection.execute(
        sa.update(IDENTITIES)
        .where(
            IDENTITIES.c.deployment_id == writer.deployment_id,
            IDENTITIES.c.host == host,
            IDENTITIES.c.revoked_at.is_(None),
        )
        .values(revoked_at=writer.now)
    )
    return bool(done.rowcount)


def _living(writer: Writer, host: str) -> sa.Row[tuple[object, ...]] | None:
    query = sa.select(IDENTITIES).where(
        IDENTITIES.c.deployment_id == writer.deployment_id,
        IDENTITIES.c.host == host,
        IDENTITIES.c.revoked_at.is_(None),
    )
    return writer.connection.execute(query).one_or_none()
