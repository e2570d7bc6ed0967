# SPDX-License-Identifier: Apache-2.0
"""Join tokens: who holds one may become a host of its deployment, in its groups."""

from __future__ import annotations

import datetime
import ipaddress

import sqlalchemy as sa

from cnsmo.model.errors import Denied, NotFound
from cnsmo.model.messages import TokenRequest, TokenStatus
from cnsmo.state.engine import aware, transaction, utc_now
from cnsmo.state.secrets import digest, matches, new_id, new_secret
from cnsmo.state.store import Deployment, Store
from cnsmo.state.tables import DEPLOYMENTS, JOIN_TOKENS
from cnsmo.state.writer import Writer

BAD_TOKEN = (  # nosec B105: words about a token
    "the join token is not valid (any more): it may be mistyped, used up, expired, revoked, or "
    "made for another host or address; ask the operator for a new one ('cnsmo-manage token create')"
)
"""One text for every reason, so that a guesser learns nothing."""


class Tokens:
    """The table of join tokens. A token is ``ID.SECRET``; only the digest of it is stored."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def create(self, deployment: str, request: TokenRequest) -> TokenStatus:
        """Make a token; its text is in the answer this one time."""
        found = self._store.deployment(deployment)
        ident, secret, now = new_id("t"), new_secret(), utc_now()
        with transaction(self._store.engine) as connection:
            connection.execute(
                sa.insert(JOIN_TOKENS).values(
                    id=ident,
                    deployment_id=found.id,
                    groups=sorted(set(request.groups)),
                    secret_hash=digest(secret),
                    expires_at=now + datetime.timedelta(seconds=request.lifetime),
                    uses_left=request.uses,
                    created_at=now,
                    host=request.host,
                    source=request.source,
                )
            )
        made = next(token for token in self.list(deployment) if token.id == ident)
        return made.model_copy(update={"token": f"{ident}.{secret}"})

    def list(self, deployment: str) -> list[TokenStatus]:
        """All tokens of a deployment, newest last."""
        found = self._store.deployment(deployment)
        query = (
            sa.select(JOIN_TOKENS)
            .where(JOIN_TOKENS.c.deployment_id == found.id)
            .order_by(JOIN_TOKENS.c.created_at, JOIN_TOKENS.c.id)
        )
        with transaction(self._store.engine) as connection:
            records = list(connection.execute(query).mappings())
        return [
            TokenStatus(
                id=record["id"],
                groups=record["groups"],
                expires_at=aware(record["expires_at"]),
                uses_left=record["uses_left"],
                revoked=record["revoked_at"] is not None,
                host=record["host"],
                source=record["source"],
            )
            for record in records
        ]

    def groups(self, deployment: Deployment, connection: sa.Connection | None = None) -> set[str]:
        """All groups that a token of the deployment ever granted or can grant."""
        query = sa.select(JOIN_TOKENS.c.groups).where(
            JOIN_TOKENS.c.deployment_id == deployment.id, JOIN_TOKENS.c.revoked_at.is_(None)
        )
        if connection is not None:
            return {group for groups in connection.scalars(query) for group in groups}
        with transaction(self._store.engine) as own:
            return {group for groups in own.scalars(query) for group in groups}

    def revoke(self, deployment: str, ident: str) -> None:
        """Make a token worthless. Hosts that joined with it stay.

        :raises NotFound: when the deployment has no such token.
        """
        found = self._store.deployment(deployment)
        with transaction(self._store.engine) as connection:
            done = connection.execute(
                sa.update(JOIN_TOKENS)
                .where(JOIN_TOKENS.c.deployment_id == found.id, JOIN_TOKENS.c.id == ident)
                .values(revoked_at=utc_now())
            )
        if not done.rowcount:
            raise NotFound(f"deployment {deployment!r} has no token {ident!r}")

    def deployment_of(self, token: str) -> str:
        """The deployment that a token belongs to, without using it.

        :raises Denied: when the token is not valid, for whatever reason.
        """
        ident, _dot, secret = token.partition(".")
        query = (
            sa.select(JOIN_TOKENS.c.secret_hash, DEPLOYMENTS.c.name)
            .join_from(JOIN_TOKENS, DEPLOYMENTS)
            .where(JOIN_TOKENS.c.id == ident)
        )
        with transaction(self._store.engine) as connection:
            record = connection.execute(query).one_or_none()
        if not matches(secret, record.secret_hash if record else digest("")) or record is None:
            raise Denied(BAD_TOKEN)
        return str(record.name)


def use(writer: Writer, token: str, host: str, source: str) -> list[str]:
    """Use a token once, inside a write to its deployment.

    source: the address that the join came from, as the core saw it; empty: it saw none.

    :return: the groups that it grants.
    :raises Denied: when it is used up, expired, revoked, of another deployment, or bound to
        another host's name or to other addresses.
    """
    ident = token.partition(".")[0]
    valid = sa.and_(
        JOIN_TOKENS.c.id == ident,
        JOIN_TOKENS.c.deployment_id == writer.deployment_id,
        JOIN_TOKENS.c.revoked_at.is_(None),
        JOIN_TOKENS.c.expires_at > writer.now,
        JOIN_TOKENS.c.uses_left > 0,
    )
    used = writer.connection.execute(
        sa.update(JOIN_TOKENS).where(valid).values(uses_left=JOIN_TOKENS.c.uses_left - 1)
    )
    if not used.rowcount:
        raise Denied(BAD_TOKEN)
    query = sa.select(JOIN_TOKENS).where(JOIN_TOKENS.c.id == ident)
    record = writer.connection.execute(query).one()
    if record.host not in (None, host) or not _within(source, record.source):
        raise Denied(BAD_TOKEN)
    return list(record.groups)


def _within(source: str, network: str | None) -> bool:
    if network is None:
        return True
    return bool(source) and ipaddress.ip_address(source) in ipaddress.ip_network(network)
