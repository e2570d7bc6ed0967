# SPDX-License-Identifier: Apache-2.0
"""The beds keep their promises, with the faults that other tests will cause through them."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from tests.beds import Bed, BedError, MariadbBed, MissingPackage, PostgresqlBed, RabbitmqBed
from tests.beds.plugin import session_bed
from tests.beds.ports import PortLease, accepts, is_free
from tests.beds.warden import is_alive

DatabaseBed = PostgresqlBed | MariadbBed
DATABASES = ["postgresql", "mariadb"]


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest) -> DatabaseBed:
    bed: DatabaseBed = request.getfixturevalue(request.param)
    return bed


@pytest.fixture
def engine(database: DatabaseBed) -> Iterator[sa.Engine]:
    """A database with one committed row, 1."""
    name = database.create_database()
    engine = sa.create_engine(database.url(name), pool_pre_ping=True)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE numbers (number INTEGER)"))
        connection.execute(sa.text("INSERT INTO numbers VALUES (1)"))
    yield engine
    engine.dispose()
    database.drop_database(name)


def test_a_database_url_is_empty_every_time(database_url: str) -> None:
    engine = sa.create_engine(database_url)
    assert sa.inspect(engine).get_table_names() == []
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE leftover (number INTEGER)"))
    engine.dispose()


test_a_database_url_is_empty_the_second_time = test_a_database_url_is_empty_every_time


def test_drop_database_does_not_wait_for_an_open_transaction(database: DatabaseBed) -> None:
    name = database.create_database()
    engine = sa.create_engine(database.url(name))
    with engine.begin() as setup:
        setup.execute(sa.text("CREATE TABLE numbers (number INTEGER)"))
    connection = engine.connect()
    connection.execute(sa.text("SELECT * FROM numbers"))
    started = time.monotonic()
    database.drop_database(name)
    assert time.monotonic() - started < 5
    connection.invalidate()
    engine.dispose()


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_committed_rows_survive(how: str, database: DatabaseBed, engine: sa.Engine) -> None:
    before = set(database.pids)
    getattr(database, how)()
    assert not any(is_alive(pid) for pid in before)
    assert database.pids == []
    assert is_free(database.port)
    with pytest.raises(OperationalError):
        _numbers(engine)
    database.start()
    assert _numbers(engine) == [1]
    assert not before & set(database.pids)


def test_a_paused_database_is_silent_and_then_goes_on(
    database: DatabaseBed, engine: sa.Engine
) -> None:
    database.pause()
    assert accepts(database.port)
    started = time.monotonic()
    limits = {"connect_timeout": 2}
    if isinstance(database, MariadbBed):
        # PyMySQL's connect_timeout ends with the TCP handshake, which the kernel completes.
        limits["read_timeout"] = 2
    with pytest.raises(OperationalError):
        sa.create_engine(engine.url, connect_args=limits).connect()
    assert time.monotonic() - started > 1
    threading.Timer(0.5, database.resume).start()
    started = time.monotonic()
    assert _numbers(engine) == [1]
    assert time.monotonic() - started > 0.2


def test_a_paused_database_can_be_stopped(database: DatabaseBed, engine: sa.Engine) -> None:
    database.pause()
    database.stop(timeout=10)
    assert database.pids == []
    database.start()
    assert _numbers(engine) == [1]


def test_a_database_started_by_a_thread_outlives_the_thread(
    database: DatabaseBed, engine: sa.Engine
) -> None:
    database.stop()
    thread = threading.Thread(target=database.start)
    thread.start()
    thread.join()
    assert _numbers(engine) == [1]
    assert database.alive


def test_disconnect_all_ends_every_session(database: DatabaseBed, engine: sa.Engine) -> None:
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))
        database.disconnect_all()
        with pytest.raises(OperationalError):
            connection.execute(sa.text("SELECT 1"))
    assert _numbers(engine) == [1]


@pytest.mark.parametrize("account", ["root", "postgres", "cnsmo"])
def test_nobody_gets_in_without_the_password(account: str, database: DatabaseBed) -> None:
    name = {"postgresql": "postgres", "mysql": "mysql"}
    url = sa.make_url(database.url("x")).set(username=account, password="wrong")
    url = url.set(database=name[url.get_backend_name()])
    with pytest.raises(OperationalError):
        sa.create_engine(url).connect()


@pytest.mark.parametrize("kind", [PostgresqlBed, MariadbBed, RabbitmqBed])
def test_two_beds_side_by_side_know_nothing_of_each_other(
    kind: type[Bed], request: pytest.FixtureRequest
) -> None:
    first: Bed = request.getfixturevalue(kind.__name__.removesuffix("Bed").lower())
    with kind() as second:
        pids, directory = second.pids, second.directory
        assert first.port != second.port
        assert not set(first.pids) & set(pids)
        second.kill()
        assert first.alive
        assert accepts(first.port)
        second.start()
        pids += second.pids
    assert not directory.exists()
    assert not any(is_alive(pid) for pid in pids)
    assert first.alive
    assert accepts(first.port)


def test_a_server_that_cannot_start_is_an_error_with_its_log() -> None:
    with PostgresqlBed() as bed:
        bed.stop()
        (bed.directory / "data" / "PG_VERSION").write_text("nonsense\n")
        with pytest.raises(BedError, match="PG_VERSION"):
            bed.start()


def test_a_server_that_never_answers_is_an_error_and_is_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with PostgresqlBed() as bed:
        bed.stop()
        monkeypatch.setattr(bed, "_answers", lambda: False)
        with pytest.raises(BedError, match=r"waited 0\.5 s in vain"):
            bed.start(timeout=0.5)
        assert bed.pids == []
        assert not bed.alive


def test_a_missing_server_skips_and_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    for kind, package in (
        (PostgresqlBed, "postgresql"),
        (MariadbBed, "mariadb-server"),
        (RabbitmqBed, "rabbitmq-server"),
    ):
        with pytest.raises(MissingPackage, match=f"package {package} is not installed"):
            kind()
        with pytest.raises(pytest.skip.Exception, match=package), session_bed(kind):
            raise AssertionError("must not be reached")


def test_mariadb_keeps_its_temporary_tables_to_itself(mariadb: MariadbBed) -> None:
    ((_, place),) = mariadb.execute("SHOW VARIABLES LIKE 'tmpdir'")
    assert place == str(mariadb.directory)


def test_no_port_is_leased_twice() -> None:
    leases = [PortLease() for _ in range(50)]
    assert len({lease.port for lease in leases}) == 50
    for lease in leases:
        lease.release()


def test_the_distributions_server_is_never_asked_for_anything(database: DatabaseBed) -> None:
    for command in map(_command, database.pids):
        assert "/etc/" not in command
        assert "/var/lib/" not in command
    assert database.directory.stat().st_mode & 0o077 == 0


def _numbers(engine: sa.Engine) -> list[int]:
    with engine.connect() as connection:
        return list(connection.scalars(sa.text("SELECT number FROM numbers")))


def _command(pid: int) -> str:
    """A process's command line; empty when it ended meanwhile."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
