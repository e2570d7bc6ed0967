# SPDX-License-Identifier: Apache-2.0
"""Who speaks: hosts' identities on the bus, proven by the secret that join gave them."""

from __future__ import annotations

import dataclasses
import datetime
import hmac
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from cnsmo.model.audit import Change
from cnsmo.model.errors import Conflict, Denied, Lapsed, NotFound, Removed
from cnsmo.state.engine import aware, transaction, utc_now
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
    """A new identity, or a known one with a new secret; ``repeated``: the join came again.

    ``former``: the id of the host whose place a new one takes; it counts for nothing any more.
    """

    id: str
    secret: str
    repeated: bool
    former: str = ""


@dataclasses.dataclass(frozen=True)
class Standing:
    """Until when a host's certificate counts, and until when another key may replace its own;
    the tokens by which it came.
    """

    certified_until: datetime.datetime | None
    readmit_until: datetime.datetime | None
    tokens: tuple[str, ...]


class Identities:
    """The table of identities."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def authenticate(self, ident: str, secret: str) -> Identity:
        """Who the bearer of this secret is.

        :raises Denied: for an unknown id and a wrong secret alike.
        :raises Removed: for the right secret of a host that was removed.
        :raises Lapsed: for that of a host whose certificate has ended.
        """
        query = (
            sa.select(IDENTITIES, DEPLOYMENTS.c.name.label("deployment"))
            .join_from(IDENTITIES, DEPLOYMENTS)
            .where(IDENTITIES.c.id == ident)
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
            raise Denied()
        if record.revoked_at is not None:
            raise Removed(f"host {record.host!r} was removed from its deployment")
        if record.expires_at is not None and record.expires_at <= utc_now():
            raise Lapsed(lapsed(record.host, aware(record.expires_at)))
        return Identity(record.id, record.deployment_id, record.deployment, record.host)

    def standing(self, deployment: str) -> dict[str, Standing]:
        """How a deployment's hosts stand, by host name."""
        query = (
            sa.select(IDENTITIES)
            .join_from(IDENTITIES, DEPLOYMENTS)
            .where(DEPLOYMENTS.c.name == deployment, IDENTITIES.c.revoked_at.is_(None))
        )
        with transaction(self._store.engine) as connection:
            return {record.host: _standing(record) for record in connection.execute(query)}

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


def admit(writer: Writer, host: str, nonce: str, key: str) -> Issued | None:
    """The identity of a host that comes again with its own key, and needs no token for that.

    That is so when the answer to its join was lost on its way. The secret is derived from the
    nonce, so that tries that overtake each other all agree. key: the digest of the host's key.
    """
    record = _living(writer, host)
    if record is None or not _same_nonce(writer, record, nonce) or not _same_key(record, key):
        return None
    if record.expires_at is not None and record.expires_at <= writer.now:
        return None
    return Issued(record.id, derived(nonce, record.id), repeated=True)


def issue(writer: Writer, host: str, nonce: str, key: str, token: str) -> Issued:
    """Make an identity for a host, inside a write that used a token.

    A known host with its own key has its identity again, with a new secret. With another key, and
    only after readmit(), it is another host of that name: the former one is revoked, so that
    nothing that it has, its account at the broker least of all, is of use to who still has it.
    token: the id of the one that was used.

    :raises Conflict: when a living host bears that name, or the key is one that was revoked.
    """
    record = _living(writer, host)
    if record is None:
        return _new(writer, host, nonce, key, [token])
    replaced = record.readmit_until is not None and record.readmit_until > writer.now
    if not replaced and not (_same_key(record, key) and record.key_hash is not None):
        raise Conflict(
            f"a host named {host!r} is already in deployment {writer.deployment!r}, with another "
            "key: choose another name ([host] name); or, if this is the same VM made anew, let it "
            f"take the old one's place ('cnsmo-manage host readmit {host}') or remove the old one "
            f"first ('cnsmo-manage host remove {host}')"
        )
    came_by = list(dict.fromkeys([*(record.tokens or ()), token]))
    if not _same_key(record, key):
        revoke(writer, host)
        made = _new(writer, host, nonce, key, came_by)
        return dataclasses.replace(made, former=str(record.id))
    secret = derived(nonce, record.id)
    _set(
        writer, record.id,
        **_sealed(writer, record.id, secret, nonce), key_hash=key, readmit_until=None,
        tokens=came_by,
    )  # fmt: skip
    writer.note(_told(record.id, host, {"key": record.key_hash}, {"key": key}))
    return Issued(record.id, secret, repeated=False)


def certify(writer: Writer, ident: str, key: str, until: datetime.datetime) -> None:
    """Note until when a host's certificate for this key counts, inside a write.

    :raises Conflict: when the host's key is another one.
    """
    query = sa.select(IDENTITIES).where(IDENTITIES.c.id == ident)
    record = writer.connection.execute(query).one()
    if not _same_key(record, key):
        raise Conflict(
            f"host {record.host!r} has another key: 'cnsmo-manage host readmit {record.host}' lets "
            "it join with a new one"
        )
    ends = until.astimezone(datetime.UTC).replace(tzinfo=None)
    _set(writer, ident, key_hash=key, expires_at=ends)
    writer.note(
        _told(
            ident,
            record.host,
            {"key": record.key_hash, "certified_until": _moment(record.expires_at)},
            {"key": key, "certified_until": _moment(ends)},
        )
    )


def readmit(writer: Writer, host: str, until: datetime.timedelta) -> None:
    """Let the next join of that name replace the host's key, inside a write.

    :raises NotFound: when there is no such host.
    """
    record = _living(writer, host)
    if record is None:
        raise NotFound(
            f"deployment {writer.deployment!r} has no host {host!r}; "
            "'cnsmo-manage host list' shows all"
        )
    ends = writer.now + until
    _set(writer, str(record.id), readmit_until=ends)
    before = {"readmit_until": _moment(record.readmit_until)}
    writer.note(_told(str(record.id), host, before, {"readmit_until": _moment(ends)}))


def lapsed(host: str, until: datetime.datetime) -> str:
    """What is told of a host whose certificate has ended."""
    return (
        f"the certificate of host {host!r} ended on {until:%Y-%m-%d %H:%M} UTC, as it was off for "
        "long: give it a fresh token ('cnsmo-manage token create'), in [agent] token_file"
    )


def revoke(writer: Writer, host: str) -> bool:
    """Make a host's secret and certificate worthless, inside the write that removes it.

    :return: whether there was such a host.
    """
    record = _living(writer, host)
    if record is None:
        return False
    _set(writer, str(record.id), revoked_at=writer.now, removed_revision=writer.base_revision + 1)
    writer.note(_told(str(record.id), host, {"key": record.key_hash}, None))
    return True


def is_living(writer: Writer, host: str) -> bool:
    """Whether there is a host of that name."""
    return _living(writer, host) is not None


def was_host(writer: Writer, host: str) -> bool:
    """Whether there ever was a host of that name."""
    query = sa.select(IDENTITIES.c.id).where(
        IDENTITIES.c.deployment_id == writer.deployment_id, IDENTITIES.c.host == host
    )
    return writer.connection.execute(query.limit(1)).first() is not None


def came_by(writer: Writer, hosts: Collection[str]) -> list[str]:
    """Ids of the tokens by which these hosts came."""
    query = sa.select(IDENTITIES.c.tokens).where(
        IDENTITIES.c.deployment_id == writer.deployment_id,
        IDENTITIES.c.host.in_(hosts),
        IDENTITIES.c.revoked_at.is_(None),
    )
    return [token for found in writer.connection.scalars(query) for token in found or ()]


def _new(writer: Writer, host: str, nonce: str, key: str, tokens: list[str]) -> Issued:
    _refuse_revoked(writer, key)
    ident = new_id("h")
    secret = derived(nonce, ident)
    writer.connection.execute(
        sa.insert(IDENTITIES).values(
            id=ident,
            deployment_id=writer.deployment_id,
            host=host,
            joined_at=writer.now,
            key_hash=key,
            tokens=tokens,
            **_sealed(writer, ident, secret, nonce),
        )
    )
    writer.note(_told(ident, host, None, {"key": key}))
    return Issued(ident, secret, repeated=False)


def _refuse_revoked(writer: Writer, key: str) -> None:
    """A key that was a removed host's is nobody's any more."""
    query = sa.select(IDENTITIES.c.host).where(
        IDENTITIES.c.deployment_id == writer.deployment_id,
        IDENTITIES.c.key_hash == key,
        IDENTITIES.c.revoked_at.is_not(None),
    )
    host = writer.connection.scalar(query.limit(1))
    if host is not None:
        raise Conflict(
            f"this key was revoked when host {host!r} was removed: run 'cnsmo-agent --teardown', "
            "which forgets it, and join anew"
        )


def _same_nonce(writer: Writer, record: sa.Row[tuple[object, ...]], nonce: str) -> bool:
    stored = writer.vault.digest(nonce_purpose(str(record.id)), str(record.nonce_hash))
    return matches(nonce, stored)


def _sealed(writer: Writer, ident: str, secret: str, nonce: str) -> dict[str, str]:
    """What the table holds of them."""
    return {
        "secret_hash": writer.vault.seal(purpose(ident), digest(secret)),
        "nonce_hash": writer.vault.seal(nonce_purpose(ident), digest(nonce)),
    }


def purpose(ident: str) -> str:
    """What the sealed digest of an identity's secret is for."""
    return f"identity {ident} secret"


def nonce_purpose(ident: str) -> str:
    """What the sealed digest of its join's nonce is for."""
    return f"identity {ident} nonce"


def _told(
    ident: str, host: str, before: dict[str, Any] | None, after: dict[str, Any] | None
) -> Change:
    return Change("identity", ident, before, after, host)


def _moment(when: datetime.datetime | None) -> str | None:
    return None if when is None else aware(when).isoformat()


def _same_key(record: sa.Row[tuple[object, ...]], key: str) -> bool:
    """A host from before there were certificates has none yet, and the first one counts."""
    return record.key_hash is None or hmac.compare_digest(str(record.key_hash), key)


def _set(writer: Writer, ident: str, **values: object) -> None:
    writer.connection.execute(
        sa.update(IDENTITIES).where(IDENTITIES.c.id == ident).values(**values)
    )


def _standing(record: sa.Row[Any]) -> Standing:
    ends, readmit = (it and aware(it) for it in (record.expires_at, record.readmit_until))
    return Standing(ends, readmit, tuple(record.tokens or ()))


def _living(writer: Writer, host: str) -> sa.Row[tuple[object, ...]] | None:
    query = sa.select(IDENTITIES).where(
        IDENTITIES.c.deployment_id == writer.deployment_id,
        IDENTITIES.c.host == host,
        IDENTITIES.c.revoked_at.is_(None),
    )
    return writer.connection.execute(query).one_or_none()
