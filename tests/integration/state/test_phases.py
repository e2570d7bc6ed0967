# SPDX-License-Identifier: Apache-2.0
"""Migrations while cores of two releases run: first what only adds, last what takes away."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.config import Config

from cnsmo.model.errors import SchemaMismatch
from cnsmo.state import schema
from cnsmo.state.engine import transaction

LATER = """
import sqlalchemy as sa
from alembic import op
revision, down_revision, phase = "{revision}", "{before}", "{phase}"
def upgrade():
    {what}
"""
ADD = "op.add_column('deployments', sa.Column('extra{revision}', sa.Integer, nullable=True))"
DROP = "op.drop_index('ix_claims_due_at', 'claims')"
Release = Callable[..., None]


@dataclasses.dataclass(frozen=True)
class Column:
    """What a row must say, or may."""

    kind: str
    length: int
    must: bool


def columns(engine: sa.Engine) -> dict[str, dict[str, Column]]:
    """All columns of all tables, by table; ``must``: a row cannot leave it out."""
    found = sa.inspect(engine)
    return {
        table: {
            column["name"]: Column(
                column["type"]._type_affinity.__name__,
                getattr(column["type"], "length", None) or 0,
                not column["nullable"]
                and column["default"] is None
                and column.get("autoincrement") is not True,
            )
            for column in found.get_columns(table)
        }
        for table in found.get_table_names()
    }


def uniques(engine: sa.Engine) -> dict[str, set[tuple[str, ...]]]:
    """By table: what must be unique."""
    found = sa.inspect(engine)
    return {
        table: {
            tuple(found.get_pk_constraint(table)["constrained_columns"]),
            *(tuple(it["column_names"]) for it in found.get_unique_constraints(table)),
            *(tuple(it["column_names"]) for it in found.get_indexes(table) if it["unique"]),
        }
        for table in found.get_table_names()
    }


def steps() -> list[tuple[str, str]]:
    """All migrations of this release: what it leads to, and what it says of itself."""
    return [(step.revision, str(step.module.phase)) for step in schema._steps()]


def test_every_migration_says_what_it_does() -> None:
    assert {phase for _revision, phase in steps()} <= {schema.EXPAND, schema.CONTRACT}
    assert [revision for revision, _phase in steps()] == sorted(r for r, _phase in steps())


def test_a_migration_that_expands_takes_nothing_from_the_release_before(bare: sa.Engine) -> None:
    """All that it wrote and read it can go on writing and reading."""
    for revision, phase in steps():
        before, unique = columns(bare), uniques(bare)
        schema.upgrade(bare, revision)
        if phase != schema.EXPAND:
            continue
        after, unique_after = columns(bare), uniques(bare)
        assert before.keys() <= after.keys(), f"{revision} drops a table"
        for table in before.keys() - {"alembic_version"}:
            for name, was in before[table].items():
                now = after[table].get(name)
                assert now is not None, f"{revision} drops {table}.{name}"
                assert now.kind == was.kind, f"{revision} changes the type of {table}.{name}"
                assert now.length >= was.length, f"{revision} narrows {table}.{name}"
                assert now.must <= was.must, f"{revision} makes {table}.{name} obligatory"
            for name in after[table].keys() - before[table].keys():
                assert not after[table][name].must, f"{revision}: {table}.{name} is obligatory"
            assert unique_after[table] == unique[table], f"{revision}: uniqueness in {table}"


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Release:
    """Makes this a later release, with these migrations besides."""
    ours = Path(schema.__file__).parent / "migrations"
    real, newest = schema._config, schema.newest()

    def make(*phases: tuple[str, str]) -> None:
        theirs, before = tmp_path / "later", newest
        theirs.mkdir()
        for number, (phase, what) in enumerate(phases, start=int(newest) + 1):
            revision = f"{number:03}"
            text = LATER.format(
                revision=revision, before=before, phase=phase,
                what=what.replace("{revision}", revision),
            )  # fmt: skip
            (theirs / f"v{revision}.py").write_text(text)
            before = revision

        def config() -> Config:
            made = real()
            made.set_main_option("path_separator", "os")
            made.set_main_option("version_locations", f"{ours / 'versions'}:{theirs}")
            return made

        monkeypatch.setattr(schema, "_config", config)

    return make


def test_cores_of_both_releases_work_between_expand_and_contract(
    bare: sa.Engine, release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema.upgrade(bare)
    old_release = schema._config
    old = schema.newest()
    release((schema.EXPAND, ADD), (schema.CONTRACT, DROP))
    new_release = schema._config
    with pytest.raises(SchemaMismatch, match=f"has schema {old}, this release needs"):
        schema.check(bare)
    with pytest.raises(SchemaMismatch, match="db upgrade --expand"):
        schema.contract(bare)
    schema.expand(bare)
    for works in (new_release, old_release):
        monkeypatch.setattr(schema, "_config", works)
        schema.check(bare)
    monkeypatch.setattr(schema, "_config", new_release)
    assert "ix_claims_due_at" in {it["name"] for it in sa.inspect(bare).get_indexes("claims")}
    schema.contract(bare)
    schema.check(bare)
    assert "ix_claims_due_at" not in {it["name"] for it in sa.inspect(bare).get_indexes("claims")}
    monkeypatch.setattr(schema, "_config", old_release)
    with pytest.raises(SchemaMismatch, match="install the release that upgraded it"):
        schema.check(bare)


def test_a_release_that_was_skipped_cannot_be_expanded_over(
    bare: sa.Engine, release: Release
) -> None:
    schema.upgrade(bare)
    release((schema.CONTRACT, DROP), (schema.EXPAND, ADD))
    with pytest.raises(SchemaMismatch, match="takes something away"):
        schema.expand(bare)
    schema.upgrade(bare)
    schema.check(bare)


def test_expand_makes_a_new_database_too_and_may_be_repeated(bare: sa.Engine) -> None:
    for _again in range(2):
        schema.expand(bare)
        schema.check(bare)
        schema.contract(bare)
    with transaction(bare) as connection:
        assert connection.scalar(sa.text("SELECT oldest FROM schema_floor")) == "005"


def test_the_release_before_goes_on_writing_what_it_knows(bare: sa.Engine) -> None:
    """Each row that it writes, without a word of what is new, is taken."""
    newest, before = schema.newest(), f"{int(schema.newest()) - 1:03}"
    schema.upgrade(bare, before)
    known = sa.MetaData()
    known.reflect(bare)
    schema.upgrade(bare, newest)
    moment = "2026-11-23 12:00:00"
    with transaction(bare) as connection:
        deployment = {"name": "shop", "revision": 1, "purged": 0, "created_at": moment}
        _insert(connection, known.tables["deployments"], deployment)
        agent = {
            "deployment_id": 1, "host": "web1", "service": "vpn", "working": True,
            "applied_revision": 1, "heartbeat_at": moment,
        }  # fmt: skip
        _insert(connection, known.tables["agents"], agent)
        assert connection.scalar(sa.text("SELECT count(*) FROM agents")) == 1


def _insert(connection: sa.Connection, table: sa.Table, values: dict[str, object]) -> None:
    columns = ", ".join(values)
    places = ", ".join(f":{name}" for name in values)
    assert set(values) <= set(table.columns.keys())
    connection.execute(sa.text(f"INSERT INTO {table.name} ({columns}) VALUES ({places})"), values)
