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
from alembic.script import ScriptDirectory

from cnsmo.model.errors import SchemaMismatch, Unavailable
from cnsmo.state.engine import transaction

LOCK_NAME = "cnsmo-schema"
LOCK_NUMBER = int.from_bytes(b"cnsmo")
LOCK_SECONDS = 60


def current(engine: sa.Engine) -> str | None:
    """The version of the database's schema; None for an empty database."""
    with transaction(engine) as connection:
        return MigrationContext.configure(connection).get_current_revision()


def newest() -> str:
    """The version that this release needs."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise SchemaMismatch("this installation of CNSMO has no migrations: install it again")
    return head


def upgrade(engine: sa.Engine, to: str = "head") -> None:
    """Migrate the database. Two that do so at once: the second waits, and finds it done."""
    config = _config()
    with _alone(engine) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, to)


def check(engine: sa.Engine) -> None:
    """Verify that the database has the schema that this release needs.

    :raises SchemaMismatch: when not; the text says what to run.
    """
    have, need = current(engine), newest()
    if have != need:
        raise SchemaMismatch(
            f"the database has schema {have or '(none)'}, this release needs {need}: "
            "run 'cnsmo-manage db upgrade'"
        )


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
