# SPDX-License-Identifier: Apache-2.0
"""Which schema the database has, which one this release needs, and how to get there."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from cnsmo.model.errors import SchemaMismatch
from cnsmo.state.engine import transaction


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
    """Migrate the database. Two that do so at once: the second waits or finds it done."""
    config = _config()
    with transaction(engine) as connection:
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


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config
