# SPDX-License-Identifier: Apache-2.0
"""A database that holds something up: for how long is bounded."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from cnsmo.model.errors import Unavailable
from cnsmo.model.resource import OPERATOR
from cnsmo.state import schema
from cnsmo.state.engine import Patience, engine_for, transaction
from cnsmo.state.store import Store
from cnsmo.state.vault import Vault
from cnsmo.state.writer import Writer
from tests.beds import MariadbBed, PostgresqlBed

SLEEP = {"postgresql": "SELECT pg_sleep(60)", "mysql": "SELECT SLEEP(60)"}
SHORT = Patience(connecting=2.0, statements=1.0)


@pytest.fixture(params=["postgresql", "mariadb"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    bed: PostgresqlBed | MariadbBed = request.getfixturevalue(request.param)
    name = bed.create_database()
    yield bed.url(name)
    bed.drop_database(name)


@pytest.fixture
def store(url: str, vault: Vault) -> Iterator[Store]:
    engine = engine_for(url, SHORT)
    schema.upgrade(engine)
    made = Store(engine, vault)
    made.create("shop")
    yield made
    engine.dispose()


def put(writer: Writer) -> None:
    writer.put("thing", "a", {}, OPERATOR)


def test_a_statement_that_takes_too_long_is_ended(store: Store) -> None:
    with pytest.raises(Unavailable):
        with transaction(store.engine) as connection:
            connection.execute(sa.text(SLEEP[store.engine.dialect.name]))
    assert store.write("shop", "anna", put).revision == 1


def test_who_stands_still_in_a_write_does_not_hold_others_up_for_ever(
    url: str, store: Store
) -> None:
    """As a core that is stopped, or whose machine is gone: it holds the deployment's lock."""
    still, written = engine_for(url, SHORT), []

    def stand_still() -> None:
        with transaction(still) as connection:
            lock = sa.text("UPDATE deployments SET revision = revision WHERE name = 'shop'")
            connection.execute(lock)
            written.append(store.write("shop", "anna", put).revision)

    with pytest.raises(Unavailable):
        stand_still()
    assert written == [1]
    still.dispose()


def test_one_who_is_patient_waits(url: str) -> None:
    engine = engine_for(url, Patience(connecting=2.0, statements=None))
    with transaction(engine) as connection:
        sleep = SLEEP[engine.dialect.name].replace("60", "1.5")
        connection.execute(sa.text(sleep))
    engine.dispose()
