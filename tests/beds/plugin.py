# SPDX-License-Identifier: Apache-2.0
"""Fixtures: `pytest_plugins = ["tests.beds.plugin"]`.

A bed starts when the first test asks for it and serves the whole session (with xdist: each worker
its own). A test may stop, kill or pause it: before that test's fixtures are torn down, and so
before the next test, every bed is made to run again.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from tests.beds.bed import Bed, MissingPackage
from tests.beds.mariadb import MariadbBed
from tests.beds.postgresql import PostgresqlBed
from tests.beds.rabbitmq import RabbitmqBed, Vhost

B = TypeVar("B", bound=Bed)
_running: list[Bed] = []


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlBed]:
    """A running PostgreSQL server."""
    with session_bed(PostgresqlBed) as bed:
        yield bed


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariadbBed]:
    """A running MariaDB server."""
    with session_bed(MariadbBed) as bed:
        yield bed


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitmqBed]:
    """A running RabbitMQ broker."""
    with session_bed(RabbitmqBed) as bed:
        yield bed


@pytest.fixture
def broker_vhost(rabbitmq: RabbitmqBed) -> Iterator[Vhost]:
    """A fresh virtual host; `broker_vhost.transport_url` for oslo.messaging."""
    vhost = rabbitmq.create_vhost()
    yield vhost
    rabbitmq.delete_vhost(vhost)


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """SQLAlchemy URL of a fresh, empty database; the test runs once for each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'state.sqlite'}"
        return
    bed: PostgresqlBed | MariadbBed = request.getfixturevalue(request.param)
    name = bed.create_database()
    yield bed.url(name)
    bed.drop_database(name)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown() -> None:
    """Bring back what the test took away."""
    for bed in _running:
        bed.recover()


@contextmanager
def session_bed(make: Callable[[], B]) -> Iterator[B]:
    """A running bed that is repaired after each test; skips, naming the package, without it."""
    try:
        bed = make()
    except MissingPackage as error:
        pytest.skip(f"MISSING SERVER: {error}")
    try:
        with bed:
            _running.append(bed)
            yield bed
    finally:
        if bed in _running:
            _running.remove(bed)
