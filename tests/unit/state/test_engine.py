# SPDX-License-Identifier: Apache-2.0
"""The engine of the embedded default; the others are tested against their servers."""

from pathlib import Path

import sqlalchemy as sa

from cnsmo.state.engine import engine_for, transaction


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
