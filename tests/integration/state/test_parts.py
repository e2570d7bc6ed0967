# SPDX-License-Identifier: Apache-2.0
"""A long answer told in parts is, once the last was told, the one that would be given at once."""

import datetime
import itertools
from typing import Any

import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from cnsmo.model.parts import Collected, Part
from cnsmo.model.resource import OPERATOR
from cnsmo.state.engine import transaction
from cnsmo.state.store import Store
from cnsmo.state.tables import DEPLOYMENTS
from cnsmo.state.writer import Writer
from tests.integration.state.rows_read import analyze, rows_read, statements

NAMES = "abcde"
_fresh = itertools.count()


def put(store: Store, deployment: str, names: str, value: Any = 0) -> int:
    def work(writer: Writer) -> None:
        for name in names:
            writer.put("thing", name, {"value": value}, OPERATOR)

    return store.write(deployment, "anna", work).revision


def delete(store: Store, deployment: str, name: str) -> None:
    store.write(deployment, "anna", lambda writer: writer.delete("thing", name))


def told(store: Store, deployment: str, since: int, most: int) -> list[Part]:
    parts = [store.part(deployment, since, None, most)]
    while parts[-1].mark is not None:
        parts.append(store.part(deployment, since, parts[-1].mark, most))
    return parts


def test_a_snapshot_in_parts_has_each_row_once(store: Store) -> None:
    put(store, "shop", "abcdefg")
    delete(store, "shop", "c")
    parts = told(store, "shop", 0, 3)
    assert [len(part.rows) for part in parts] == [3, 3, 1]
    assert [part.begins for part in parts] == [True, False, False]
    assert [row.name for part in parts for row in part.rows] == list("abdefgc")
    assert parts[0].snapshot


def test_what_is_few_comes_in_one_part(store: Store) -> None:
    since = put(store, "shop", "abcdefg")
    put(store, "shop", "b", 1)
    (part,) = told(store, "shop", since, 3)
    assert ([row.name for row in part.rows], part.snapshot) == (["b"], False)
    (nothing,) = told(store, "shop", since + 1, 3)
    assert (nothing.rows, nothing.head) == ([], since + 1)


def test_a_tombstone_that_is_forgotten_in_the_middle_begins_all_anew(store: Store) -> None:
    since = put(store, "shop", "abc")
    for name in "ade":
        put(store, "shop", name, 1)
    delete(store, "shop", "b")
    first = store.part("shop", since, None, 2)
    assert first.mark is not None
    store.purge("shop", datetime.timedelta(0))
    again = store.part("shop", since, first.mark, 2)
    assert (again.begins, again.snapshot) == (True, True)


def test_a_database_that_was_restored_in_the_middle_begins_all_anew(store: Store) -> None:
    put(store, "shop", "abcde")
    for value in range(1, 4):
        put(store, "shop", "abcde", value)
    first = store.part("shop", 1, None, 2)
    assert first.mark is not None
    with transaction(store.engine) as connection:
        connection.execute(sa.update(DEPLOYMENTS).values(revision=2))
    assert store.part("shop", 1, first.mark, 2).begins


def test_a_part_reads_what_it_tells(store: Store) -> None:
    for begin in range(300):
        name = f"{begin:05}"
        store.write("shop", "a", lambda writer, it=name: writer.put("thing", it, {}, OPERATOR))
    analyze(store.engine)
    first = store.part("shop", 280, None, 5)
    with statements(store.engine) as sent:
        part = store.part("shop", 280, first.mark, 5)
    assert len(part.rows) == 5
    assert sum(rows_read(store.engine, *it) for it in sent if it[0].startswith("SELECT")) <= 20


step = st.one_of(
    st.tuples(st.just("put"), st.text(NAMES, min_size=1, max_size=3)),
    st.tuples(st.just("delete"), st.sampled_from(NAMES)),
    st.tuples(st.just("purge"), st.just("")),
    st.tuples(st.just("part"), st.just("")),
)


@settings(max_examples=60)
@given(
    before=st.lists(step, max_size=5),
    missed=st.lists(step, max_size=5),
    meanwhile=st.lists(st.lists(step, max_size=3), max_size=6),
    most=st.integers(1, 3),
)
def test_whatever_happens_between_the_parts_the_reader_is_right_in_the_end(
    store: Store, before: Any, missed: Any, meanwhile: Any, most: int
) -> None:
    name = f"p{next(_fresh)}"
    store.create(name)
    values = itertools.count(1)

    def happen(steps: list[tuple[str, str]]) -> None:
        for what, names in steps:
            if what == "put":
                put(store, name, names, next(values))
            elif what == "delete":
                delete(store, name, names)
            elif what == "purge":
                store.purge(name, datetime.timedelta(0))

    happen(before)
    known = store.changes(name)
    since = known.head
    rows = {row.name: row.body["value"] for row in known.rows if not row.deleted}
    happen(missed)
    collected, pauses = Collected(since), iter(meanwhile)
    while (answer := collected.answer()) is None:
        collected = collected.taking(store.part(name, since, collected.mark, most))
        if collected.answer() is None:
            happen(next(pauses, []))
    if answer.snapshot:
        rows = {}
    for row in answer.rows:
        if row.deleted:
            rows.pop(row.name, None)
        else:
            rows[row.name] = row.body["value"]
    truth = store.view(name)
    assert rows == {row.name: row.body["value"] for row in truth.rows("thing")}
    assert answer.head == truth.revision
