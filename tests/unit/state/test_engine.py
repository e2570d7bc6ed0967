# SPDX-License-Identifier: Apache-2.0
"""The engine of the embedded default; the others are tested against their servers."""

from pathlib import Path

import sqlalchemy as sa

from cnsmo.state.engine import Patience, connect_arguments, engine_for, transaction


def test_connections_of_a_file_are_kept_and_as_many_as_configured(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/state.sqlite"
    engine = engine_for(url, max_pool_size=2, max_overflow=1, pool_timeout=4)
    assert isinstance(engine.pool, sa.QueuePool)
    assert (engine.pool.size(), engine.pool._max_overflow, engine.pool.timeout()) == (2, 1, 4)
    made: list[object] = []
    sa.event.listen(engine, "connect", lambda connection, _record: made.append(connection))
    for _ in range(3):
        with transaction(engine) as connection:
            assert connection.scalar(sa.text("PRAGMA journal_mode")) == "wal"
    assert len(made) == 1
    engine.dispose()


def test_a_database_in_memory_needs_no_file() -> None:
    engine = engine_for("sqlite://")
    with transaction(engine) as connection:
        assert connection.scalar(sa.text("SELECT 1")) == 1
    engine.dispose()


def test_no_driver_waits_for_ever_and_a_url_may_say_otherwise() -> None:
    patience = Patience(connecting=4.0, statements=7.0)
    postgresql = connect_arguments(sa.make_url("postgresql+psycopg://a@b/c"), patience)
    assert postgresql["connect_timeout"] == 4
    assert "-c statement_timeout=7000" in postgresql["options"]
    assert "-c idle_in_transaction_session_timeout=7000" in postgresql["options"]
    mariadb = connect_arguments(sa.make_url("mysql+pymysql://a@b/c?read_timeout=99"), patience)
    assert "max_statement_time = 7" in mariadb["init_command"]
    assert "read_timeout" not in mariadb
    assert mariadb["write_timeout"] == 11
    assert connect_arguments(sa.make_url("sqlite://"), patience) == {}


def test_one_who_is_patient_waits_for_statements_but_not_for_connections() -> None:
    patience = Patience(connecting=4.0, statements=None)
    postgresql = connect_arguments(sa.make_url("postgresql+psycopg://a@b/c"), patience)
    assert "timeout=" not in postgresql["options"]
    assert postgresql["connect_timeout"] == 4
    mariadb = connect_arguments(sa.make_url("mysql+pymysql://a@b/c"), patience)
    assert mariadb == {"connect_timeout": 4}
