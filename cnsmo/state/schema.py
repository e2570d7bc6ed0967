# SPDX-License-Identifier: Apache-2.0
"""Which schema the database has, which one this release needs, and how to get there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory

from cnsmo.model.errors import SchemaMismatch, Unavailable
from cnsmo.state.engine import transaction
from cnsmo.state.tables import SCHEMA_FLOOR

LOCK_NAME = "cnsmo-schema"
LOCK_NUMBER = int.from_bytes(b"cnsmo")
LOCK_SECONDS = 60
EXPAND, CONTRACT = "expand", "contract"
"""What a migration says of itself (``phase``): it only adds; or it takes away what the release
before used. Versions compare as texts."""
FIRST_ROLLING = "005"
"""The first schema whose release looks at the floor."""


def current(engine: sa.Engine) -> str | None:
    """The version of the database's schema; None for an empty database."""
    with transaction(engine) as connection:
        return MigrationContext.configure(connection).get_current_revision()


def newest() -> str:
    """The last version that this release knows."""
    return _steps()[-1].revision


def needed() -> str:
    """The version that this release needs: with all that is added, and before anything is taken
    away that the release before uses."""
    steps = _steps()
    while len(steps) > 1 and _phase(steps[-1]) == CONTRACT:
        steps.pop()
    return steps[-1].revision


def upgrade(engine: sa.Engine, to: str = "head") -> None:
    """Migrate the database. Two that do so at once: the second waits, and finds it done.

    :raises SchemaMismatch: when a later release has migrated it.
    """
    config = _config()
    have = current(engine)
    if have is not None and have > newest():
        raise SchemaMismatch(
            f"the database has schema {have}, of a later release than this one ({newest()})"
        )
    with _alone(engine) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, to)
        _note_floor(connection)


def expand(engine: sa.Engine) -> None:
    """Add all that this release needs; cores of the release before go on working.

    :raises SchemaMismatch: when something has to be taken away first: a release was skipped, or its
        upgrade not finished.
    """
    have, need = current(engine), needed()
    ahead = [step for step in _steps() if (have or "") < step.revision <= need]
    between = [step for step in ahead if _phase(step) == CONTRACT]
    if between and have is not None:
        raise SchemaMismatch(
            f"the database has schema {have}, and {between[0].revision} takes something away: when "
            "no core of the release before that runs any more, 'cnsmo-manage db upgrade' does all"
        )
    if ahead:
        upgrade(engine, need)


def contract(engine: sa.Engine) -> None:
    """Take away what only releases before this one use; no core of theirs may run any more.

    :raises SchemaMismatch: when what this release needs was not added yet.
    """
    have = current(engine)
    if have is None or have < needed():
        raise SchemaMismatch(
            f"the database has schema {have or '(none)'}: run 'cnsmo-manage db upgrade --expand' "
            "first, then restart all cores with this release"
        )
    upgrade(engine)


def check(engine: sa.Engine) -> None:
    """Verify that this release works with the schema that the database has.

    Also with one of a later release, as long as that has only added to it.

    :raises SchemaMismatch: when not; the text says what to run.
    """
    have, need = current(engine), needed()
    if have is None or have < need:
        raise SchemaMismatch(
            f"the database has schema {have or '(none)'}, this release needs {need}: "
            "run 'cnsmo-manage db upgrade'"
        )
    if have > newest() and floor(engine) > newest():
        raise SchemaMismatch(
            f"the database has schema {have}, this release needs {need}: install the release that "
            "upgraded it"
        )


def floor(engine: sa.Engine) -> str:
    """The oldest release, by the newest schema that it knows, that works with the database."""
    with transaction(engine) as connection:
        if not sa.inspect(connection).has_table(SCHEMA_FLOOR.name):
            return MigrationContext.configure(connection).get_current_revision() or ""
        found = connection.scalar(sa.select(SCHEMA_FLOOR.c.oldest))
        return found or MigrationContext.configure(connection).get_current_revision() or ""


def _note_floor(connection: sa.Connection) -> None:
    """Write down for older releases, which do not know our migrations, which of them still work.

    That is who knows all up to the last migration that took something away.
    """
    if not sa.inspect(connection).has_table(SCHEMA_FLOOR.name):
        return
    have = MigrationContext.configure(connection).get_current_revision() or ""
    done = [step for step in _steps() if step.revision <= have]
    taken = [step.revision for step in done if _phase(step) == CONTRACT]
    oldest = max([FIRST_ROLLING, *taken])
    connection.execute(sa.delete(SCHEMA_FLOOR))
    connection.execute(sa.insert(SCHEMA_FLOOR).values(id=1, oldest=oldest))


def _steps() -> list[Script]:
    """All migrations, the first one first.

    :raises SchemaMismatch: when there are none.
    """
    scripts = list(ScriptDirectory.from_config(_config()).walk_revisions())
    if not scripts:
        raise SchemaMismatch("this installation of CNSMO has no migrations: install it again")
    return scripts[::-1]


def _phase(step: Script) -> str:
    return str(step.module.phase)


@contextlib.contextmanager
def _alone(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction during which no other process migrates the same database.

    :raises Unavailable: when another migration takes too long.
    """
    with contextlib.ExitStack() as stack:
        if engine.dialect.name in ("mysql", "mariadb"):
            # Commits at each DDL statement: the lock is another session's, given back at the end.
            keeper = stack.enter_context(transaction(engine))
            if not keeper.scalar(sa.select(sa.func.get_lock(LOCK_NAME, LOCK_SECONDS))):
                raise Unavailable("another migration of this database does not end")
            stack.callback(keeper.execute, sa.select(sa.func.release_lock(LOCK_NAME)))
        connection = stack.enter_context(transaction(engine))
        if engine.dialect.name == "sqlite":  # its one write lock, before anything is read
            connection.execute(sa.text("PRAGMA user_version = 0"))
        elif engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK_NUMBER)))
        yield connection


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config
