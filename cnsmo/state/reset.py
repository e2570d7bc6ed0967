# SPDX-License-Identifier: Apache-2.0
"""A database whose key is lost goes on with a new one: what was sealed is worthless from then on.

Declared services, hosts and what they announced are not sealed, and stay. Nobody knows any more
who the hosts are: each joins again, by a fresh token and with its own key, and is the same host.
"""

from __future__ import annotations

import dataclasses

import sqlalchemy as sa

from cnsmo.model.audit import Act, Change
from cnsmo.model.errors import Conflict, InvalidRequest
from cnsmo.state import identities, tokens
from cnsmo.state.engine import transaction, utc_now
from cnsmo.state.sealing import PROBE
from cnsmo.state.secrets import digest, new_secret
from cnsmo.state.store import Store
from cnsmo.state.tables import AUDIT_CHAINS, DEPLOYMENTS, IDENTITIES, JOIN_TOKENS, VAULT
from cnsmo.state.vault import Vault

ACTION = "secrets reset"


@dataclasses.dataclass(frozen=True)
class Loss:
    """What is lost with the key: how many hosts have to join again, which tokens are worthless."""

    hosts: int
    tokens: int
    deployments: tuple[str, ...]


def loss(engine: sa.Engine, vault: Vault) -> Loss:
    """What a reset costs.

    :raises Conflict: when there is a key: it is not lost, or another one is in its place.
    :raises InvalidRequest: when nothing was ever sealed.
    """
    if vault.path.exists():
        raise Conflict(
            f"{vault.path} holds a key. Is it the right one, nothing is lost ('cnsmo-manage "
            "secrets show'); is it another one, move it away first"
        )
    with transaction(engine) as connection:
        if connection.scalar(sa.select(VAULT.c.probe)) is None:
            raise InvalidRequest("nothing is sealed: 'cnsmo-manage secrets init' makes the key")
        hosts = connection.scalar(sa.select(sa.func.count()).where(_LIVING))
        good = connection.scalar(sa.select(sa.func.count()).where(_good()))
        names = connection.scalars(sa.select(DEPLOYMENTS.c.name).order_by(DEPLOYMENTS.c.name))
        return Loss(hosts or 0, good or 0, tuple(names))


def reset(store: Store, act: Act) -> Loss:
    """Make a new key, and have nobody believed who relies on the old one. No core may run.

    Broken off, it is done again after the new file was moved away.

    :raises Conflict: as loss().
    """
    lost = loss(store.engine, store.vault)
    store.vault.create()
    with transaction(store.engine) as connection:
        _disown(connection, store.vault)
    change = Change("secrets", "key", None, {"hosts": lost.hosts, "tokens": lost.tokens})
    for deployment in lost.deployments:
        store.write(deployment, act.author, lambda writer: writer.note(change), act)
    store.vault.change(lambda kept: kept.model_copy(update={"used": True}))
    return lost


_LIVING = IDENTITIES.c.revoked_at.is_(None)


def _good() -> sa.ColumnElement[bool]:
    return sa.and_(
        JOIN_TOKENS.c.revoked_at.is_(None),
        JOIN_TOKENS.c.expires_at > utc_now(),
        JOIN_TOKENS.c.uses_left > 0,
    )


def _disown(connection: sa.Connection, vault: Vault) -> None:
    """Seal digests of secrets that nobody has in the place of all."""

    def nobodys(purpose: str) -> str:
        return vault.seal(purpose, digest(new_secret()))

    for ident in connection.scalars(sa.select(IDENTITIES.c.id)).all():
        values = {
            "secret_hash": nobodys(identities.purpose(ident)),
            "nonce_hash": nobodys(identities.nonce_purpose(ident)),
        }
        connection.execute(sa.update(IDENTITIES).where(IDENTITIES.c.id == ident).values(values))
    for ident in connection.scalars(sa.select(JOIN_TOKENS.c.id)).all():
        sealed = nobodys(tokens.purpose(ident))
        connection.execute(
            sa.update(JOIN_TOKENS).where(JOIN_TOKENS.c.id == ident).values(secret_hash=sealed)
        )
    connection.execute(sa.update(JOIN_TOKENS).where(_good()).values(revoked_at=utc_now()))
    connection.execute(sa.update(AUDIT_CHAINS).values(seal=""))
    connection.execute(sa.update(VAULT).values(probe=vault.seal(PROBE, PROBE)))
