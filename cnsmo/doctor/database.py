# SPDX-License-Identifier: Apache-2.0
"""Symptoms of the database, and of the key that its secrets are sealed with."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator

import sqlalchemy as sa

from cnsmo.doctor.site import Site
from cnsmo.doctor.symptom import Finding, critical, warning
from cnsmo.model.errors import CnsmoError, Unavailable
from cnsmo.state import schema, sealing
from cnsmo.state.engine import transaction, utc_now
from cnsmo.state.tables import AUDIT

SKEW, LARGE_SKEW = 2.0, 30.0
"""Seconds between two clocks: to look after, and to act on."""
TRIAL_BYTES = 256 * 1024
CLOCKS = {
    "postgresql": "SELECT extract(epoch FROM clock_timestamp())",
    "mysql": "SELECT unix_timestamp(sysdate(6))",
    "mariadb": "SELECT unix_timestamp(sysdate(6))",
}
"""The server's time, in seconds of the epoch. SQLite has none of its own."""


def database_away(site: Site) -> Iterator[Finding]:
    """The database does not answer.

    Cores live on and answer 'unavailable'; agents keep what is in force. Is the database's server
    running, and does [database] connection lead to it from this machine? Cores find it again by
    themselves. For an SQLite file that is not there: 'cnsmo-manage db upgrade' makes it.
    """
    try:
        site.engine()
    except CnsmoError as exc:
        yield critical(str(exc))


def migration_behind(site: Site) -> Iterator[Finding]:
    """The database's schema is not the one that this release needs.

    A core of this release does not start on it. Behind: 'cnsmo-manage db upgrade'. Ahead: a later
    release has upgraded it, so install that one here, too.
    """
    have, need = schema.current(site.engine()), schema.newest()
    if have != need:
        yield critical(f"the database has schema {have or '(none)'}, this release needs {need}")


def database_takes_no_writes(site: Site) -> Iterator[Finding]:
    """The database answers, but takes no writes.

    Full, or read-only: make room where it keeps its data; after a failover, see that [database]
    connection leads to the server that was promoted, not to a standby. Agents keep what is in
    force. Tried with 256 KiB in a transaction that is taken back.
    """
    engine = site.engine()
    try:
        with transaction(engine) as connection:
            connection.execute(sa.insert(AUDIT).values(_trial()))
            raise _TakenBack
    except _TakenBack:
        return
    except Unavailable as exc:
        yield critical(_reason(exc.__cause__ or exc))
    except Exception as exc:  # noqa: BLE001  # each driver has its own for a full disk
        yield critical(_reason(exc))


def database_clock(site: Site) -> Iterator[Finding]:
    """The clock of the database's server is not that of this core's machine.

    Let both follow the same time servers (chrony, systemd-timesyncd). Times that cores write are
    their own: with clocks that differ, life times of tokens and silence of agents are misjudged.
    """
    engine = site.engine()
    query = CLOCKS.get(engine.dialect.name)
    if query is None:
        return
    with transaction(engine) as connection:
        before = time.time()
        theirs = float(connection.scalar(sa.text(query)) or 0.0)
        after = time.time()
    yield from skewed("the database's clock", max(theirs - after, min(theirs - before, 0.0)))


def secrets_key(site: Site) -> Iterator[Finding]:
    """The key that the database's secrets are sealed with is not the one in [secrets] key_file.

    Restore the file from its backup, or copy it from a core that works, with mode 0600. Values
    that are sealed by others: somebody wrote to the database past the cores, or another core has
    another key; hosts and tokens whose values these are are not believed. A rotation that was
    begun: 'cnsmo-manage secrets rotate' ends it.
    """
    vault, engine = site.vault, site.engine()
    try:
        kept = vault.load()
        fits = sealing.fits(engine, vault)
    except CnsmoError as exc:
        yield critical(str(exc))
        return
    if fits is None:
        yield warning(f"no core has sealed this database yet with the key in {vault.path}")
    elif not fits:
        yield critical(f"the key in {vault.path} is not the one that this database is sealed with")
        return
    found = sealing.count(engine, vault)
    if fits and found.foreign:
        yield critical(f"{found.foreign} values are sealed by others than the key in {vault.path}")
    if kept.former:
        yield warning(f"a rotation of the key in {vault.path} was begun, and has not ended")


def skewed(whose: str, seconds: float) -> Iterator[Finding]:
    """What there is to say of a clock that is so far ahead."""
    if abs(seconds) < SKEW:
        return
    told = f"{whose} is {abs(seconds):.0f} s {'ahead' if seconds > 0 else 'behind'}"
    yield critical(told) if abs(seconds) >= LARGE_SKEW else warning(told)


class _TakenBack(Exception):
    """Rolls the trial back."""


def _trial() -> dict[str, object]:
    """A line of no chain; of chance, so that no database makes it smaller."""
    empty = dict.fromkeys(("role", "who", "source", "action", "kind", "name", "host", "before"), "")
    text = secrets.token_hex(TRIAL_BYTES // 2)
    chain = f"doctor-{secrets.token_hex(6)}"
    more = {"chain": chain, "number": 1, "at": utc_now(), "revision": 0, "after": text, "hash": ""}
    return {**empty, **more}


def _reason(exc: BaseException) -> str:
    """The driver's own words, without the statement and what was to be written."""
    original = getattr(exc, "inner_exception", None) or getattr(exc, "orig", None) or exc
    original = getattr(original, "orig", None) or original
    lines = str(original).strip().splitlines() or [type(exc).__name__]
    return f"it takes no writes: {lines[0][:200]}"
