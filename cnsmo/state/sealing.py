# SPDX-License-Identifier: Apache-2.0
"""What the database holds sealed, taken as a whole: is the key the right one, seal all anew."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import sqlalchemy as sa
from oslo_db import exception as db_exc

from cnsmo.model.errors import InvalidRequest
from cnsmo.state import audit, identities, tokens
from cnsmo.state.engine import transaction
from cnsmo.state.tables import AUDIT_CHAINS, DEPLOYMENTS, IDENTITIES, JOIN_TOKENS, VAULT
from cnsmo.state.vault import Kept, NotSealed, Vault, new_key

SCHEMA = "003"
"""The first whose database is sealed."""
PROBE = "probe"
DIGEST = 64
"""Characters of a digest that was stored before there were seals."""
BATCH = 500


@dataclasses.dataclass(frozen=True)
class Sealed:
    """A column of sealed values. ``purpose``: what a row's value is for, given the row's id."""

    table: sa.Table
    column: sa.Column[str]
    purpose: Callable[[str], str]


COLUMNS = (
    Sealed(IDENTITIES, IDENTITIES.c.secret_hash, identities.purpose),
    Sealed(IDENTITIES, IDENTITIES.c.nonce_hash, identities.nonce_purpose),
    Sealed(JOIN_TOKENS, JOIN_TOKENS.c.secret_hash, tokens.purpose),
    Sealed(AUDIT_CHAINS, AUDIT_CHAINS.c.seal, audit.purpose),
)


@dataclasses.dataclass(frozen=True)
class Count:
    """How many values are sealed by the key that seals now, by another one of ours, by none."""

    current: int
    former: int
    foreign: int


def check(engine: sa.Engine, vault: Vault) -> None:
    """See to it that the key is the one that seals this database; a new database begins with it.

    :raises NotFound: when there is no key.
    :raises InvalidRequest: when it is another one, or the database is not sealed any more.
    """
    kept = vault.load()
    with transaction(engine) as connection:
        probe = connection.scalar(sa.select(VAULT.c.probe))
    if probe is None:
        _adopt(engine, vault, kept)
    elif not _opens(vault, probe):
        raise InvalidRequest(
            f"the key in {vault.path} is not the one that this database is sealed with: restore "
            "that one from the backup, or copy it from another core"
        )
    if not kept.used:
        vault.change(lambda now: now.model_copy(update={"used": True}))


def fits(engine: sa.Engine, vault: Vault) -> bool | None:
    """Whether the key is the one that seals this database; None: it is not sealed. Only looks.

    :raises NotFound: when there is no key.
    """
    vault.load()
    with transaction(engine) as connection:
        probe = connection.scalar(sa.select(VAULT.c.probe))
    return None if probe is None else _opens(vault, probe)


def count(engine: sa.Engine, vault: Vault) -> Count:
    """How the values are sealed."""
    current = former = foreign = 0
    for _column, _ident, value in _values(engine):
        if vault.is_current(value):
            current += 1
        elif _anew(vault, value) is not None:
            former += 1
        else:
            foreign += 1
    return Count(current, former, foreign)


def stage(vault: Vault) -> None:
    """Make the key that the next rotation will take, so that all cores can know it before.

    :raises InvalidRequest: while a rotation is under way, or when there is one already.
    """

    def staged(kept: Kept) -> Kept:
        if kept.former or kept.next:
            what = "a rotation is under way" if kept.former else "the next key is there"
            raise InvalidRequest(f"{what} already: 'cnsmo-manage secrets rotate' goes on")
        return kept.model_copy(update={"next": new_key()})

    vault.change(staged)


def rotate(engine: sa.Engine, vault: Vault, keep: bool = False) -> int:
    """Seal everything with a new key, while cores run; one that was broken off is carried on.

    keep: leave the old key in the file, for cores that do not know the new file yet; the next
    rotation ends this one then.

    :return: how many values were sealed anew.
    :raises InvalidRequest: when values are there that no key of ours sealed; the old key stays.
    """
    vault.change(_begun)
    _await_writers(engine)
    done = 0
    while changed := _seal_anew(engine, vault):  # cores may have sealed with the old one meanwhile
        done += changed
    left = count(engine, vault).foreign
    if left:
        raise InvalidRequest(
            f"{left} values are sealed by no key in {vault.path}; the old one stays in it. "
            "Somebody wrote to the database, or another core has another key"
        )
    if not keep:
        vault.change(lambda kept: kept.model_copy(update={"former": ()}))
    return done


def _begun(kept: Kept) -> Kept:
    """A rotation under way: of one that was broken off, the same one."""
    if kept.former:
        return kept
    return Kept(current=kept.next or new_key(), former=(kept.current,), used=kept.used)


def _await_writers(engine: sa.Engine) -> None:
    """Wait for writes that may have sealed with the old key; they hold their deployment's row."""
    with transaction(engine) as connection:
        connection.execute(sa.update(DEPLOYMENTS).values(revision=DEPLOYMENTS.c.revision))


def _seal_anew(engine: sa.Engine, vault: Vault) -> int:
    done = 0
    for column, ident, value in _values(engine):
        anew = None if vault.is_current(value) else _anew(vault, value)
        if anew is not None:
            done += _replace(engine, column, ident, value, anew)
    return done


def _anew(vault: Vault, value: str) -> str | None:
    try:
        return vault.anew(value)
    except NotSealed:
        return None


def _replace(
    engine: sa.Engine, column: sa.Column[str], ident: str | int, value: str, anew: str
) -> int:
    """Replace a value, unless somebody did meanwhile."""
    table = column.table
    with transaction(engine) as connection:
        statement = sa.update(table).where(table.c.id == ident, column == value)
        return connection.execute(statement.values({column: anew})).rowcount


def _values(engine: sa.Engine) -> Iterator[tuple[sa.Column[str], str | int, str]]:
    """All values: column, the row's id, value; the probe last."""
    for column in (*(it.column for it in COLUMNS), VAULT.c.probe):
        yield from ((column, ident, value) for ident, value in _column(engine, column))


def _column(engine: sa.Engine, column: sa.Column[str]) -> Iterator[tuple[str | int, str]]:
    key = column.table.c.id
    last: str | int | None = None
    while True:
        query = sa.select(key, column).where(column != "").order_by(key).limit(BATCH)
        if last is not None:
            query = query.where(key > last)
        with transaction(engine) as connection:
            found = connection.execute(query).all()
        yield from ((ident, value) for ident, value in found)
        if len(found) < BATCH:
            return
        last = found[-1][0]


def _opens(vault: Vault, probe: str) -> bool:
    try:
        return vault.open(PROBE, probe) == PROBE
    except NotSealed:
        return False


def _adopt(engine: sa.Engine, vault: Vault, kept: Kept) -> None:
    """Seal a database that never was, in one step.

    :raises InvalidRequest: when the key is in use, or the database was sealed before: who can write
        it may have put digests of secrets of his own into it.
    """
    if kept.used:
        raise InvalidRequest(
            f"the key in {vault.path} is in use, but this database is not sealed with it: restore "
            "the database from the backup; a new one gets a key of its own ([secrets] key_file)"
        )
    try:
        with transaction(engine) as connection:
            connection.execute(sa.insert(VAULT).values(id=1, probe=vault.seal(PROBE, PROBE)))
            for column in COLUMNS:
                _seal_plain(connection, vault, column)
            audit.adopt(connection, vault)
    except db_exc.DBDuplicateEntry:
        check(engine, vault)  # another core was first


def _seal_plain(connection: sa.Connection, vault: Vault, sealed: Sealed) -> None:
    key, column = sealed.table.c.id, sealed.column
    for ident, value in connection.execute(sa.select(key, column).where(column != "")).all():
        if len(value) != DIGEST:
            raise InvalidRequest(
                "the database holds sealed values, but not the probe that was sealed with them: "
                "somebody changed it. Restore it from a backup"
            )
        connection.execute(
            sa.update(sealed.table)
            .where(key == ident)
            .values({column: vault.seal(sealed.purpose(ident), value)})
        )
