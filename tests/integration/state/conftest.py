# SPDX-License-Identifier: Apache-2.0
"""A migrated, empty System State in each kind of database."""

import multiprocessing.pool
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from cnsmo.state import schema
from cnsmo.state.engine import engine_for
from cnsmo.state.store import Store
from cnsmo.state.vault import Vault
from tests.integration.state import processes


@pytest.fixture
def bare(database_url: str) -> Iterator[sa.Engine]:
    """An engine for an empty database."""
    made = engine_for(database_url)
    yield made
    made.dispose()


@pytest.fixture
def store(bare: sa.Engine, vault: Vault) -> Store:
    """A migrated store that has the deployment ``shop``."""
    schema.upgrade(bare)
    made = Store(bare, vault)
    made.create("shop")
    return made


@pytest.fixture(scope="session")
def rivals() -> Iterator[multiprocessing.pool.Pool]:
    """Two processes of their own that begin their tasks at the same moment."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(2, processes.wait_at, (context.Barrier(2),)) as pool:
        yield pool
        # They end by themselves: a SIGTERM makes coverage write its data wherever it strikes.
        pool.close()
        pool.join()
