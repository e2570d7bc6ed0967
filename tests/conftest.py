# SPDX-License-Identifier: Apache-2.0
"""What every test may use. cnsmo.cmd comes first: it chooses oslo.service's threading backend."""

import cnsmo.cmd  # isort: skip

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from oslo_config import cfg

from cnsmo import conf as options
from cnsmo.bus import transport
from cnsmo.state import schema
from cnsmo.state.engine import engine_for
from cnsmo.state.vault import Vault
from tests.beds.ports import PortLease
from tests.joining import Door, make_authority, open_door

assert cnsmo.cmd

pytest_plugins = ["tests.failures", "tests.hunting", "tests.beds.plugin", "tests.skips"]

settings.register_profile(
    "cnsmo",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("cnsmo")


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with the real migrations, to be copied."""
    path = tmp_path_factory.mktemp("migrated") / "state.sqlite"
    engine = engine_for(f"sqlite:///{path}")
    schema.upgrade(engine)
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    engine.dispose()
    return path


@pytest.fixture
def sqlite_url(migrated_sqlite: Path, tmp_path: Path) -> str:
    """A migrated System State of this test's own."""
    path = tmp_path / "state.sqlite"
    shutil.copy(migrated_sqlite, path)
    return f"sqlite:///{path}"


@pytest.fixture
def engine(sqlite_url: str) -> Iterator[sa.Engine]:
    """An engine for it."""
    made = engine_for(sqlite_url)
    yield made
    made.dispose()


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    """The key of this test's database."""
    made = Vault(tmp_path / "secrets.json")
    made.create()
    return made


@pytest.fixture
def conf(sqlite_url: str, tmp_path: Path, vault: Vault) -> Iterator[cfg.ConfigOpts]:
    """The options, with the in-process bus and a database of this test's own."""
    options.register()
    made = options.CONF
    made([], project="cnsmo", default_config_files=[], default_config_dirs=[])
    made.set_override("connection", sqlite_url, "database")
    made.set_override("state_dir", str(tmp_path / "agent"), "agent")
    made.set_override("token_file", str(tmp_path / "join.token"), "agent")
    made.set_override("listen", "", "join")
    made.set_override("ca_directory", str(tmp_path / "ca"), "join")
    made.set_override("key_file", str(vault.path), "secrets")
    yield made
    transport.close()
    made.reset()
    made.clear_override("connection", "database")
    for group in (
        "core", "core_metrics", "agent", "host", "metrics", "bus", "join", "secrets", "cloud",
    ):  # fmt: skip
        for name in made[group]:
            made.clear_override(name, group)


@pytest.fixture
def door_port() -> Iterator[int]:
    """A TCP port of this test's own, where hosts may join."""
    with PortLease() as lease:
        yield lease.port


@pytest.fixture
def door(conf: cfg.ConfigOpts, door_port: int) -> Door:
    """Cores of this test let hosts join, over HTTPS."""
    make_authority(conf)
    return open_door(conf, door_port)


@pytest.fixture
def thread() -> Iterator[Callable[..., threading.Thread]]:
    """Starts functions on threads; all must have ended well when the test does."""
    started: list[threading.Thread] = []

    def start(target: Callable[..., object], *args: object) -> threading.Thread:
        made = threading.Thread(target=target, args=args, daemon=True)
        started.append(made)
        made.start()
        return made

    yield start
    for made in started:
        made.join(30)
        assert not made.is_alive(), f"{made} does not end"
