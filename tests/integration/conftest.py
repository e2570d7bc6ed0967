# SPDX-License-Identifier: Apache-2.0
"""Real processes: see tests/integration/fleet.py."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from oslo_config import cfg

from cnsmo.state import schema
from cnsmo.state.engine import engine_for
from tests.beds import PostgresqlBed, Vhost
from tests.beds.bed import MissingPackage
from tests.beds.postgresql_pair import PostgresqlPair
from tests.integration.fleet import Fleet
from tests.joining import Door


@pytest.fixture
def migrated_postgresql(postgresql: PostgresqlBed) -> Iterator[str]:
    """URL of a migrated, empty System State."""
    name = postgresql.create_database()
    engine = engine_for(postgresql.url(name))
    schema.upgrade(engine)
    engine.dispose()
    yield postgresql.url(name)
    postgresql.drop_database(name)


@pytest.fixture
def pair() -> Iterator[PostgresqlPair]:
    """A primary and its synchronous standby."""
    try:
        made = PostgresqlPair()
    except MissingPackage as error:
        pytest.skip(f"MISSING SERVER: {error}")
    with made:
        yield made


@pytest.fixture
def bare_fleet(
    tmp_path: Path,
    broker_vhost: Vhost,
    migrated_postgresql: str,
    conf: cfg.ConfigOpts,
    door: Door,
) -> Iterator[Fleet]:
    """A migrated, empty System State; no process runs yet."""
    made = Fleet(tmp_path, broker_vhost, migrated_postgresql, conf, door)
    yield made
    made.close()


@pytest.fixture
def fleet(bare_fleet: Fleet) -> Fleet:
    """One core runs, and the deployment ``shop`` is there, empty."""
    bare_fleet.core().says("core answers")
    bare_fleet.operator.deployment_create("shop")
    return bare_fleet
