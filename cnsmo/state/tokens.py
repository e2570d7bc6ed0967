# SPDX-License-Identifier: Apache-2.0
"""Join tokens: who holds one may become a host of its deployment, in its groups."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from cnsmo.model.audit import Change
from cnsmo.model.errors import Denied, NotFound
from cnsmo.model.messages import TokenRequest, TokenStatus
from cnsmo.state.engine import aware, transaction
from cnsmo.state.secrets import digest, is_word, matches, new_id, new_secret
from cnsmo.state.store import Deployment, Store
from cnsmo.state.tables import DEPLOYMENTS, JOIN_TOKENS
from cnsmo.state.writer import Writer

BAD_TOKEN = (  # nosec B105: words about a token
    "the join token is not valid (any more): it may be mistyped, used up, expired, revoked, or "
    "made for another host or address; ask the operator for a new one ('cnsmo-manage token create')"
)
"""One text for every reason, so that a guesser learns nothing."""
PROBES = 5
"""So many names may at least be asked for in vain with one token."""


class Tokens:
    """The table of join tokens. A token is ``ID.SECRET``; only its sealed digest is stored."""

    def __init__(self, store: Store) -> None:
        self._store = store

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
        return [_status(record) for record in records]

    def groups(self, deployment: Deployment, connection: sa.Connection | None = None) -> set[str]:
        """All groups that a token of the deployment ever granted or can grant."""
        if connection is not None:
            return granted(connection, deployment.id)
        with transaction(self._store.engine) as own:
            return granted(own, deployment.id)

    def deployment_of(self, token: str) -> str:
        """The deployment that a token belongs to, without using it.

        :raises Denied: when the token is not valid, for whatever reason.
        """
        ident, _dot, secret = (token if is_word(token) else "").partition(".")
        query = (
            sa.select(JOIN_TOKENS.c.secret_hash, DEPLOYMENTS.c.name)
            .join_from(JOIN_TOKENS, DEPLOYMENTS)
            .where(JOIN_TOKENS.c.id == ident)
        )
        with transaction(self._store.engine) as connection:
            record = connection.execute(query).one_or_none()
        vault = self._store.vault
        stored = (
            vault.digest(purpose(ident), record.secret_hash)
            if record
            else vault.digest("", vault.decoy())
        )
        if not matches(secret, stored) or record is None:
            raise Denied(BAD_TOKEN)
        return str(record.name)


def granted(connection: sa.Connection, deployment_id: int) -> set[str]:
    """All groups that a token of the deployment ever granted or can grant."""
    query = sa.select(JOIN_TOKENS.c.groups).where(
        JOIN_TOKENS.c.deployment_id == deployment_id, JOIN_TOKENS.c.revoked_at.is_(None)
    )
    return {group for groups in connection.scalars(query) for group in groups}


def create(writer: Writer, request: TokenRequest) -> TokenStatus:
    """Make a token, inside a write; its text is in the answer this one time."""
    ident, secret = new_id("t"), new_secret()
    values = {
        "groups": sorted(set(request.groups)),
        "expires_at": writer.now + datetime.timedelta(seconds=request.lifetime),
        "uses_left": request.uses,
        "host": request.host,
        "source": request.source,
        "addresses": sorted(set(request.addresses)),
        "revoked_at": None,
    }
    writer.connection.execute(
        sa.insert(JOIN_TOKENS).values(
            id=ident,
            deployment_id=writer.deployment_id,
            secret_hash=writer.vault.seal(purpose(ident), digest(secret)),
            created_at=writer.now,
            **values,
        )
    )
    made = _status({"id": ident, **values})
    writer.note(Change("token", ident, None, _told(made)))
    return made.model_copy(update={"token": f"{ident}.{secret}"})


def revoke(writer: Writer, ident: str) -> None:
    """Make a token worthless, inside a write. Hosts that joined with it stay.

    :raises NotFound: when the deployment has no such token.
    """
    before = _find(writer, ident)
    if before is None:
        raise NotFound(f"deployment {writer.deployment!r} has no token {ident!r}")
    if before.revoked:
        return
    writer.connection.execute(
        sa.update(JOIN_TOKENS).where(JOIN_TOKENS.c.id == ident).values(revoked_at=writer.now)
    )
    writer.note(Change("token", ident, _told(before), {**_told(before), "revoked": True}))


def spend(writer: Writer, ident: str) -> None:
    """Make a token worthless, inside a write, where somebody could join with it still."""
    left = _find(writer, ident)
    if left is not None and left.uses_left > 0 and left.expires_at > aware(writer.now):
        revoke(writer, ident)


def use(writer: Writer, token: str, host: str, source: str) -> TokenStatus:
    """Use a token once, inside a write to its deployment.

    source: the address that the join came from, as the core saw it; empty: it saw none.

    :return: what it grants.
    :raises Denied: when it is used up, expired, revoked, of another deployment, or bound to
        another host's name or to other addresses; or when a host that came by it is in quarantine.
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
    left = _find(writer, ident)
    if left is None or left.host not in (None, host) or not _within(source, left.source):
        raise Denied(BAD_TOKEN)
    before = {**_told(left), "uses_left": left.uses_left + 1}
    writer.note(Change("token", ident, before, _told(left), host))
    return left


def refused(writer: Writer, token: str, host: str) -> bool:
    """Note that a join by a valid token was refused for the name that it asked for.

    Of each name once: who tries again asks nothing new. A token with which more names are asked for
    than hosts could join is worthless from then on: somebody probes.

    :return: whether there is something new.
    """
    ident = token.partition(".")[0]
    names = writer.connection.scalar(
        sa.select(JOIN_TOKENS.c.refused).where(
            JOIN_TOKENS.c.deployment_id == writer.deployment_id, JOIN_TOKENS.c.id == ident
        )
    )
    before, known = _find(writer, ident), list(names or ())
    if before is None or before.revoked or host in known:
        return False
    values: dict[str, Any] = {"refused": [*known, host]}
    told = {**_told(before), "refused": host}
    if len(known) >= max(PROBES, before.uses_left):
        values["revoked_at"] = writer.now
        told["revoked"] = True
    writer.connection.execute(
        sa.update(JOIN_TOKENS).where(JOIN_TOKENS.c.id == ident).values(**values)
    )
    writer.note(Change("token", ident, _told(before), told, host))
    return True


def _find(writer: Writer, ident: str) -> TokenStatus | None:
    query = sa.select(JOIN_TOKENS).where(
        JOIN_TOKENS.c.deployment_id == writer.deployment_id, JOIN_TOKENS.c.id == ident
    )
    record = writer.connection.execute(query).mappings().one_or_none()
    return None if record is None else _status(record)


def _status(record: Mapping[str, Any] | sa.RowMapping) -> TokenStatus:
    return TokenStatus(
        id=record["id"],
        groups=list(record["groups"]),
        expires_at=aware(record["expires_at"]),
        uses_left=record["uses_left"],
        revoked=record["revoked_at"] is not None,
        host=record["host"],
        source=record["source"],
        addresses=list(record["addresses"] or ()),
    )


def _told(token: TokenStatus) -> dict[str, Any]:
    """What the audit says of a token: everything but its text."""
    return token.model_dump(mode="json", exclude={"id", "token"})


def purpose(ident: str) -> str:
    """What the sealed digest of a token is for."""
    return f"token {ident} secret"


def _within(source: str, network: str | None) -> bool:
    if network is None:
        return True
    return bool(source) and ipaddress.ip_address(source) in ipaddress.ip_network(network)
