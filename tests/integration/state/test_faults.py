# SPDX-License-Identifier: Apache-2.0
"""The database goes away, and comes back: an error that says so, and nothing lost."""

import threading
import time

import pytest
import sqlalchemy as sa
from oslo_db import exception as db_exc

from cnsmo.model.errors import Unavailable
from cnsmo.model.resource import OPERATOR
from cnsmo.state import schema
from cnsmo.state.engine import engine_for, transaction
from cnsmo.state.store import Store
from cnsmo.state.vault import Vault
from cnsmo.state.writer import Writer
from tests.beds import MariadbBed, PostgresqlBed
from tests.eventually import eventually

Bed = PostgresqlBed | MariadbBed


@pytest.fixture(params=["postgresql", "mariadb"])
def bed(request: pytest.FixtureRequest) -> Bed:
    found: Bed = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def store(bed: Bed, vault: Vault) -> Store:
    name = bed.create_database()
    engine = engine_for(bed.url(name))
    schema.upgrade(engine)
    made = Store(engine, vault)
    made.create("shop")
    yield made
    engine.dispose()
    bed.recover()
    bed.drop_database(name)


def put(store: Store, number: int) -> int:
    def work(writer: Writer) -> None:
        writer.put("thing", f"row{number}", {"value": number}, OPERATOR)

    return store.write("shop", "anna", work).revision


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_database_that_is_away_is_said_to_be_unavailable(
    bed: Bed, store: Store, how: str
) -> None:
    assert put(store, 1) == 1
    getattr(bed, how)()
    for ask in (
        lambda: put(store, 2),
        lambda: store.changes("shop"),
        lambda: store.create("lab"),
        lambda: schema.check(store.engine),
    ):
        with pytest.raises(Unavailable, match="the database does not answer"):
            ask()
    bed.start()
    assert put(store, 2) == 2
    assert [row.name for row in store.changes("shop").rows] == ["row1", "row2"]


def test_a_first_connection_to_nowhere_is_unavailable_too(bed: Bed, store: Store) -> None:
    bed.stop()
    with pytest.raises(Unavailable):
        schema.check(engine_for(store.engine.url.render_as_string(hide_password=False)))


def test_sessions_that_the_server_ends_are_replaced(bed: Bed, store: Store) -> None:
    put(store, 1)
    bed.restart()
    assert put(store, 2) == 2


def test_a_database_killed_between_writes_loses_no_revision(bed: Bed, store: Store) -> None:
    acknowledged: list[int] = []
    tried = 0
    ending = threading.Event()
    unforeseen: list[BaseException] = []

    def write() -> None:
        nonlocal tried
        try:
            while not ending.is_set():
                tried += 1
                try:
                    acknowledged.append(put(store, tried))
                except Unavailable:
                    time.sleep(0.02)
        except BaseException as exc:  # noqa: BLE001  # judged at the end
            unforeseen.append(exc)

    writer = threading.Thread(target=write)
    writer.start()
    for _round in range(3):
        before = len(acknowledged)
        eventually(lambda before=before: unforeseen or len(acknowledged) > before + 5)
        bed.kill()
        bed.start()
    before = len(acknowledged)
    eventually(lambda: unforeseen or len(acknowledged) > before + 5)
    ending.set()
    writer.join()
    assert not unforeseen
    rows = store.changes("shop").rows
    assert [row.revision for row in rows] == list(range(1, len(rows) + 1))
    assert set(acknowledged) <= {row.revision for row in rows}
    assert len(rows) - len(acknowledged) <= 3, "more than the writes whose answers were lost"


def test_a_write_chosen_as_a_deadlocks_victim_is_tried_again(store: Store) -> None:
    tries = []

    def work(writer: Writer) -> None:
        tries.append(writer.base_revision)
        writer.put("thing", "a", {}, OPERATOR)
        if len(tries) < 4:
            raise db_exc.DBDeadlock()

    assert store.write("shop", "anna", work).revision == 1
    assert tries == [0, 0, 0, 0]


def test_a_real_deadlock_costs_a_try_and_nothing_else(store: Store) -> None:
    """Two writes lock two deployments in opposite order, which no use case of ours does."""
    store.create("lab")
    meeting = threading.Barrier(2)
    entered: list[str] = []

    def write(first: str, second: str) -> None:
        def work(writer: Writer) -> None:
            entered.append(first)
            if len(entered) <= 2:
                meeting.wait(10)
            writer.connection.execute(
                sa.text(
                    "UPDATE deployments SET observe_at = NULL, revision = revision WHERE name = :n"
                ),
                {"n": second},
            )
            writer.put("thing", first, {}, OPERATOR)

        store.write(first, "anna", work)

    threads = [
        threading.Thread(target=write, args=pair) for pair in (("shop", "lab"), ("lab", "shop"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert len(entered) == 3, "one of the two was tried again"
    assert [store.changes(name).head for name in ("shop", "lab")] == [1, 1]


def test_a_pool_without_a_free_connection_is_unavailable(bed: Bed, store: Store) -> None:
    url = store.engine.url.render_as_string(hide_password=False)
    small = engine_for(url, max_pool_size=1, max_overflow=0, pool_timeout=0)
    with transaction(small):
        with pytest.raises(Unavailable):
            schema.current(small)
    small.dispose()
