# SPDX-License-Identifier: Apache-2.0
"""The System State's promises, one by one, on each database."""

import datetime
from typing import Any

import pytest

from cnsmo.model.errors import Conflict, NotFound
from cnsmo.model.resource import OPERATOR
from cnsmo.state.store import Store
from cnsmo.state.writer import Writer

LONG_AGO = datetime.timedelta(days=30)
NOW = datetime.timedelta(0)


def put(store: Store, name: str, value: Any, kind: str = "thing", owner: str = OPERATOR) -> int:
    def work(writer: Writer) -> None:
        writer.put(kind, name, {"value": value}, owner)

    return store.write("shop", "anna", work).revision


def delete(store: Store, name: str, kind: str = "thing") -> int:
    return store.write("shop", "anna", lambda writer: writer.delete(kind, name)).revision


def names(store: Store, since: int) -> list[tuple[str, bool]]:
    return [(row.name, row.deleted) for row in store.changes("shop", since).rows]


def test_a_new_deployment_is_at_revision_zero_and_empty(store: Store) -> None:
    changes = store.changes("shop")
    assert (changes.head, changes.snapshot, changes.rows) == (0, True, [])
    assert store.deployment("shop").revision == 0


def test_a_name_is_given_to_one_deployment_only(store: Store) -> None:
    with pytest.raises(Conflict, match="a deployment 'shop' exists already"):
        store.create("shop")


@pytest.mark.parametrize("ask", ["deployment", "changes", "delete", "view"])
def test_an_unknown_deployment_is_named_in_the_error(store: Store, ask: str) -> None:
    with pytest.raises(NotFound, match="no deployment 'shoe'"):
        getattr(store, ask)("shoe")
    with pytest.raises(NotFound, match="no deployment 'shoe'"):
        store.write("shoe", "anna", lambda _writer: None)


def test_names_of_deployments_differ_by_case_too(store: Store) -> None:
    with pytest.raises(NotFound):
        store.deployment("Shop")


def test_a_write_stamps_all_its_rows_with_the_next_revision(store: Store) -> None:
    def work(writer: Writer) -> str:
        writer.put("thing", "a", {"value": 1}, OPERATOR)
        writer.put("thing", "b", {"value": 2}, "h-1")
        return "done"

    written = store.write("shop", "anna", work)
    assert (written.value, written.revision) == ("done", 1)
    rows = store.changes("shop").rows
    assert [(row.name, row.revision, row.owner, row.author) for row in rows] == [
        ("a", 1, OPERATOR, "anna"),
        ("b", 1, "h-1", "anna"),
    ]
    assert rows == written.rows


def test_a_body_comes_back_as_it_was(store: Store) -> None:
    body = {"text": "grüße ☃ 😀", "deep": [{"a": None, "b": [1, 2.5, True]}], "big": 2**60}
    store.write("shop", "ánna", lambda writer: writer.put("thing", "a", body, OPERATOR))
    row = store.view("shop").get("thing", "a")
    assert row is not None
    assert row.body == body
    assert row.author == "ánna"
    age = datetime.datetime.now(datetime.UTC) - row.updated_at
    assert datetime.timedelta(0) <= age < datetime.timedelta(seconds=30)


def test_a_write_that_changes_nothing_makes_no_revision(store: Store) -> None:
    assert put(store, "a", 1) == 1
    assert put(store, "a", 1) == 1
    assert delete(store, "never was") == 1
    assert store.write("shop", "anna", lambda _writer: None).rows == []
    assert store.changes("shop", 1).head == 1


def test_another_owner_is_a_change(store: Store) -> None:
    put(store, "a", 1)
    assert put(store, "a", 1, owner="h-1") == 2


def test_what_a_write_raises_leaves_nothing_behind(store: Store) -> None:
    def work(writer: Writer) -> None:
        writer.put("thing", "a", {}, OPERATOR)
        writer.flush()
        raise ValueError("changed my mind")

    with pytest.raises(ValueError, match="changed my mind"):
        store.write("shop", "anna", work)
    assert store.changes("shop").head == 0
    assert put(store, "a", 1) == 1


def test_a_deleted_row_is_told_as_a_tombstone_with_its_last_body(store: Store) -> None:
    put(store, "a", 7)
    assert delete(store, "a") == 2
    (row,) = store.changes("shop", 1).rows
    assert (row.deleted, row.revision, row.body) == (True, 2, {"value": 7})
    view = store.view("shop")
    assert view.get("thing", "a") is None
    assert [row.name for row in view.tombstones("thing")] == ["a"]


def test_a_deleted_row_can_be_written_again(store: Store) -> None:
    put(store, "a", 1)
    delete(store, "a")
    assert put(store, "a", 1) == 3
    assert names(store, 2) == [("a", False)]


def test_a_reader_gets_the_latest_version_of_what_changed_and_nothing_else(store: Store) -> None:
    put(store, "a", 1)
    put(store, "b", 1)
    put(store, "a", 2)
    changes = store.changes("shop", 1)
    assert not changes.snapshot
    assert [(row.name, row.revision, row.body) for row in changes.rows] == [
        ("b", 2, {"value": 1}),
        ("a", 3, {"value": 2}),
    ]
    assert names(store, 3) == []


def test_since_zero_and_ahead_of_the_head_get_a_snapshot(store: Store) -> None:
    put(store, "a", 1)
    for since in (0, 5, 10**15):
        changes = store.changes("shop", since)
        assert changes.snapshot, since
        assert [row.name for row in changes.rows] == ["a"], since
    assert not store.changes("shop", 1).snapshot


def test_purge_forgets_old_tombstones_and_gives_late_readers_a_snapshot(store: Store) -> None:
    put(store, "a", 1)  # 1
    put(store, "b", 1)  # 2
    delete(store, "a")  # 3
    put(store, "c", 1)  # 4
    assert store.purge("shop", LONG_AGO) == 0
    assert not store.changes("shop", 1).snapshot
    assert store.purge("shop", NOW) == 1
    late = store.changes("shop", 2)
    assert late.snapshot
    assert [row.name for row in late.rows] == ["b", "c"]
    recent = store.changes("shop", 3)
    assert not recent.snapshot
    assert [row.name for row in recent.rows] == ["c"]


def test_purge_makes_no_revision_and_never_moves_its_horizon_back(store: Store) -> None:
    put(store, "a", 1)
    put(store, "b", 1)
    delete(store, "a")
    delete(store, "b")
    store.purge("shop", NOW)
    assert store.deployment("shop").purged == 4
    assert store.purge("shop", NOW) == 0
    found = store.deployment("shop")
    assert (found.revision, found.purged) == (4, 4)


def test_a_deployment_takes_its_rows_with_it_and_no_others(store: Store) -> None:
    store.create("lab")
    put(store, "a", 1)
    store.write("lab", "anna", lambda writer: writer.put("thing", "a", {}, OPERATOR))
    store.delete("shop")
    assert [found.name for found in store.deployments()] == ["lab"]
    assert len(store.changes("lab").rows) == 1
    store.create("shop")
    assert store.changes("shop").rows == []


def test_deployments_have_revisions_of_their_own(store: Store) -> None:
    store.create("lab")
    put(store, "a", 1)
    put(store, "a", 2)
    assert store.changes("lab").head == 0


def test_a_writer_sees_what_it_changed_already(store: Store) -> None:
    put(store, "a", 1)

    def work(writer: Writer) -> None:
        writer.put("thing", "b", {"value": 2}, OPERATOR)
        writer.delete("thing", "a")
        assert writer.get("thing", "a") is None
        assert [row.name for row in writer.rows("thing")] == ["b"]
        view = writer.view(["thing"], granted=["web"])
        assert [row.name for row in view.rows("thing")] == ["b"]
        assert [row.name for row in view.tombstones("thing")] == ["a"]
        assert view.revision == writer.revision == 2
        assert "web" in view.groups

    store.write("shop", "anna", work)
