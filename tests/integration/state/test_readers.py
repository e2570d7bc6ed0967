# SPDX-License-Identifier: Apache-2.0
"""No reader ever misses the last version of a row; revisions have no gaps and never go back."""

import contextlib
import datetime
import itertools
import multiprocessing.pool
import threading
from collections.abc import Callable, Iterator
from typing import Any

import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from cnsmo.model.resource import OPERATOR, Changes
from cnsmo.state.store import Store
from cnsmo.state.writer import Writer
from tests.integration.state import processes

NAMES = ["a", "b", "c"]
READERS = 3
_fresh = itertools.count()


class Reader:
    """Believes what it is told, as a replica does."""

    def __init__(self, store: Store, deployment: str = "shop") -> None:
        self.store = store
        self.deployment = deployment
        self.revision = 0
        self.rows: dict[str, int] = {}

    def sync(self) -> Changes:
        changes = self.store.changes(self.deployment, self.revision)
        assert changes.head >= self.revision, "a revision went back"
        if changes.snapshot:
            self.rows = {}
        else:
            assert all(self.revision < row.revision <= changes.head for row in changes.rows)
        for row in changes.rows:
            if row.deleted:
                self.rows.pop(row.name, None)
            else:
                self.rows[row.name] = row.body["value"]
        self.revision = changes.head
        return changes


@contextlib.contextmanager
def before_each_commit(engine: sa.Engine, look: Callable[[], Any]) -> Iterator[None]:
    """Calls look when a write has sent all its statements and has not been committed."""
    inside = threading.local()

    def commit(connection: sa.Connection) -> None:
        if not getattr(inside, "busy", False):
            inside.busy = True
            look()
            inside.busy = False

    sa.event.listen(engine, "commit", commit)
    try:
        yield
    finally:
        sa.event.remove(engine, "commit", commit)


change = st.tuples(st.sampled_from(NAMES), st.one_of(st.none(), st.integers(0, 2)))
readers = st.frozensets(st.integers(0, READERS - 1))
write = st.tuples(st.just("write"), st.lists(change, max_size=3), readers)
step = st.one_of(
    write,
    write,
    st.tuples(st.just("read"), st.integers(0, READERS - 1)),
    st.tuples(st.just("purge")),
)


@settings(max_examples=40)
@given(schedule=st.lists(step, max_size=12))
def test_any_schedule_of_writes_reads_and_purges_leaves_every_reader_right(
    store: Store, schedule: list[tuple[Any, ...]]
) -> None:
    name = f"d{next(_fresh)}"
    store.create(name)
    every = [Reader(store, name) for _ in range(READERS)]
    truth: dict[str, int] = {}
    head = 0
    for what, *arguments in schedule:
        if what == "read":
            every[arguments[0]].sync()
        elif what == "purge":
            store.purge(name, datetime.timedelta(0))
        else:
            changes, looking = arguments

            def work(writer: Writer, changes: list[Any] = changes) -> None:
                for row, value in changes:
                    if value is None:
                        writer.delete("thing", row)
                    else:
                        writer.put("thing", row, {"value": value}, OPERATOR)

            with before_each_commit(
                store.engine, lambda looking=looking: [every[i].sync() for i in looking]
            ):
                done = store.write(name, "anna", work)
            assert all(every[i].revision == head for i in looking), "uncommitted rows were seen"
            assert done.revision == head + bool(done.rows), "a gap, or a step back"
            head = done.revision
            for row, value in changes:
                if value is None:
                    truth.pop(row, None)
                else:
                    truth[row] = value
    for reader in every:
        reader.sync()
        assert (reader.rows, reader.revision) == (truth, head)


def test_two_processes_write_at_once_and_no_reader_misses_anything(
    store: Store, database_url: str, rivals: multiprocessing.pool.Pool
) -> None:
    writing = rivals.starmap_async(
        processes.write_often,
        [(database_url, str(store.vault.path), seed, 60, 8) for seed in (1, 2)],
        chunksize=1,
    )
    every = [Reader(store) for _ in range(3)]
    wrong: list[BaseException] = []

    def read(reader: Reader) -> None:
        try:
            while not writing.ready():
                reader.sync()
        except BaseException as exc:  # noqa: BLE001  # judged at the end
            wrong.append(exc)

    threads = [threading.Thread(target=read, args=[reader]) for reader in every]
    for thread in threads:
        thread.start()
    told = sorted(itertools.chain.from_iterable(writing.get(100)))
    for thread in threads:
        thread.join()
    assert not wrong

    assert [revision for revision, _said in told] == list(range(1, len(told) + 1))
    truth: dict[str, int] = {}
    for _revision, said in told:
        truth |= said
    truth = {name: value for name, value in truth.items() if value != -1}
    late = Reader(store)
    for reader in (*every, late):
        reader.sync()
        assert (reader.rows, reader.revision) == (truth, len(told))
