# SPDX-License-Identifier: Apache-2.0
"""The database's primary dies and its standby takes over: nothing acknowledged is lost."""

import threading
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from cnsmo.model.errors import Unavailable
from cnsmo.model.resource import OPERATOR
from cnsmo.state import schema
from cnsmo.state.engine import engine_for, transaction
from cnsmo.state.store import Store
from cnsmo.state.vault import Vault
from cnsmo.state.writer import Writer
from tests.beds.postgresql_pair import PostgresqlPair
from tests.eventually import eventually

WRITERS = 3


@pytest.fixture
def store(pair: PostgresqlPair, vault: Vault) -> Iterator[Store]:
    engine = engine_for(pair.url(pair.create_database()))
    schema.upgrade(engine)
    made = Store(engine, vault)
    made.create("shop")
    yield made
    engine.dispose()


class Writing:
    """Writes rows of its own, one after the other, and remembers which were acknowledged."""

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name
        self.acknowledged: dict[int, str] = {}
        """By revision, the row."""
        self.unclear = 0
        self.unforeseen: list[BaseException] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._ending.is_set():
            number += 1
            row = f"{self._name}{number}"

            def work(writer: Writer, row: str = row) -> None:
                writer.put("thing", row, {"value": row}, OPERATOR)

            try:
                self.acknowledged[self._store.write("shop", "anna", work).revision] = row
            except Unavailable:
                self.unclear += 1
            except BaseException as exc:  # noqa: BLE001  # judged at the end
                self.unforeseen.append(exc)
                return


def test_writes_go_on_and_nothing_acknowledged_is_lost(pair: PostgresqlPair, store: Store) -> None:
    writers = [Writing(store, name) for name in "abc"[:WRITERS]]

    def further(by: int) -> None:
        marks = [len(writer.acknowledged) + by for writer in writers]
        eventually(
            lambda: all(
                writer.unforeseen or len(writer.acknowledged) >= mark
                for writer, mark in zip(writers, marks, strict=True)
            ),
            60,
            "all write on",
        )

    further(10)
    pair.primary.kill()
    pair.promote()
    further(10)
    for writer in writers:
        writer.stop()
    assert [writer.unforeseen for writer in writers] == [[], [], []]
    rows = {row.revision: row.name for row in store.changes("shop").rows}
    assert sorted(rows) == list(range(1, len(rows) + 1)), "revisions without gaps"
    for writer in writers:
        assert writer.acknowledged.items() <= rows.items()
    unclear = sum(writer.unclear for writer in writers)
    told = sum(len(writer.acknowledged) for writer in writers)
    assert len(rows) - told <= unclear, "what was done besides, nobody was told of"
    print(f"{told} writes acknowledged, {unclear} unclear, {len(rows) - told} of them done")


def test_a_primary_that_became_read_only_is_left(pair: PostgresqlPair, store: Store) -> None:
    """As when it was demoted, and its connections were left open."""

    def put(writer: Writer) -> bool:
        return writer.put("thing", "a", {"value": writer.base_revision}, OPERATOR)

    store.write("shop", "anna", put)
    pair.primary.execute("ALTER SYSTEM SET default_transaction_read_only = on")
    pair.primary.execute("SELECT pg_reload_conf()")
    eventually(lambda: is_read_only(store), 10, "the primary takes no writes")
    pair.promote()
    assert store.write("shop", "anna", put).revision == 2
    with transaction(store.engine) as connection:
        port = connection.scalar(sa.text("SELECT inet_server_port()"))
    assert port == pair.standby.port


def is_read_only(store: Store) -> bool:
    with transaction(store.engine) as connection:
        return bool(connection.scalar(sa.text("SHOW transaction_read_only")) == "on")
