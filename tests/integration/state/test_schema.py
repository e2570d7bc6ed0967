# SPDX-License-Identifier: Apache-2.0
"""Migrations: the same on every database, and equal to the tables that the code uses."""

import multiprocessing.pool

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from cnsmo.model.errors import SchemaMismatch
from cnsmo.model.resource import OPERATOR
from cnsmo.state import schema
from cnsmo.state.engine import engine_for, transaction
from cnsmo.state.store import Store
from cnsmo.state.tables import METADATA
from cnsmo.state.vault import Vault
from tests.integration.state import processes


def test_an_empty_database_has_no_schema_and_says_what_to_run(bare: sa.Engine) -> None:
    assert schema.current(bare) is None
    told = rf"\(none\).*needs {schema.newest()}.*cnsmo-manage db upgrade"
    with pytest.raises(SchemaMismatch, match=told):
        schema.check(bare)


def test_upgrade_from_empty_leads_to_the_newest_schema(bare: sa.Engine) -> None:
    schema.upgrade(bare)
    assert schema.current(bare) == schema.newest()
    schema.check(bare)


def test_a_second_upgrade_changes_nothing(bare: sa.Engine) -> None:
    schema.upgrade(bare)
    schema.upgrade(bare)
    schema.check(bare)


def test_the_migrated_schema_is_the_one_that_the_tables_describe(bare: sa.Engine) -> None:
    schema.upgrade(bare)
    with bare.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, METADATA) == []


def test_constraints_bear_the_names_that_the_tables_give_them(bare: sa.Engine) -> None:
    schema.upgrade(bare)
    found = sa.inspect(bare)
    for table in METADATA.tables.values():
        indexes = {index["name"] for index in found.get_indexes(table.name)}
        assert {index.name for index in table.indexes} <= indexes
        if bare.dialect.name == "postgresql":
            assert found.get_pk_constraint(table.name)["name"] == f"pk_{table.name}"
        for key in found.get_foreign_keys(table.name):
            assert key["name"] == f"fk_{table.name}_deployment_id"
            assert key["options"]["ondelete"] == "CASCADE"


def later(engine: sa.Engine, oldest: str) -> None:
    """As a later release leaves it: with its own schema, that releases since oldest can use."""
    schema.upgrade(engine)
    with transaction(engine) as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '999'"))
        connection.execute(sa.text("UPDATE schema_floor SET oldest = :it"), {"it": oldest})


def test_a_database_that_a_later_release_only_added_to_is_used(bare: sa.Engine) -> None:
    later(bare, oldest=schema.newest())
    schema.check(bare)


def test_a_database_from_which_a_later_release_took_something_is_refused(bare: sa.Engine) -> None:
    later(bare, oldest="998")
    with pytest.raises(SchemaMismatch, match="the database has schema 999"):
        schema.check(bare)
    with pytest.raises(SchemaMismatch, match="of a later release than this one"):
        schema.upgrade(bare)


def test_two_upgrades_at_once_both_succeed(
    database_url: str, bare: sa.Engine, rivals: multiprocessing.pool.Pool
) -> None:
    assert rivals.map(processes.upgrade, [database_url] * 2, chunksize=1) == ["", ""]
    schema.check(bare)


def test_every_character_is_kept_whatever_the_url_says(database_url: str, vault: Vault) -> None:
    engine = engine_for(database_url.partition("?")[0])
    schema.upgrade(engine)
    store = Store(engine, vault)
    store.create("shop")
    store.write("shop", "änna 😀", lambda writer: writer.put("thing", "a", {"x": "😀"}, OPERATOR))
    (row,) = store.changes("shop").rows
    assert (row.author, row.body) == ("änna 😀", {"x": "😀"})
    engine.dispose()
