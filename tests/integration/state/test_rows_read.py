# SPDX-License-Identifier: Apache-2.0
"""What an answer to an agent costs the database: by what changed, not by how much there is."""

from cnsmo.model.resource import OPERATOR
from cnsmo.state.store import Store
from cnsmo.state.writer import Writer
from tests.integration.state.rows_read import analyze, rows_read, statements

ROWS = 3000
"""As many as 1,000 hosts have."""
FEW = 4


def fill(store: Store, count: int) -> int:
    def work(writer: Writer) -> None:
        for number in range(count):
            writer.put("thing", f"row{number:05}", {"value": number}, OPERATOR)

    return store.write("shop", "anna", work).revision


def change(store: Store, value: int) -> int:
    def work(writer: Writer) -> None:
        writer.put("thing", "row00007", {"value": value}, OPERATOR)

    return store.write("shop", "anna", work).revision


def test_the_answer_to_one_change_reads_what_changed_and_not_what_there_is(store: Store) -> None:
    since = fill(store, ROWS)
    change(store, -1)
    analyze(store.engine)
    with statements(store.engine) as sent:
        changes = store.changes("shop", since)
    assert [row.body["value"] for row in changes.rows] == [-1]
    queries = [it for it in sent if it[0].startswith("SELECT")]
    assert len(queries) == 1
    assert sum(rows_read(store.engine, *it) for it in queries) <= FEW


def test_a_snapshot_reads_all_that_there_is_and_is_counted_so(store: Store) -> None:
    fill(store, 50)
    analyze(store.engine)
    with statements(store.engine) as sent:
        assert len(store.changes("shop", 0).rows) == 50
    assert sum(rows_read(store.engine, *it) for it in sent if it[0].startswith("SELECT")) >= 50


def test_whose_an_address_is_is_asked_without_reading_all_hosts(store: Store) -> None:
    def fill_in(writer: Writer) -> None:
        for number in range(50):
            body = {"private": [f"10.0.0.{number}/24", f"fd00::{number:x}/64"], "odd": "50%_\\"}
            writer.put("host", f"web{number:02}", body, "core")

    store.write("shop", "anna", fill_in)
    found: list[list[str]] = []

    def ask(writer: Writer) -> None:
        for words in (['"10.0.0.4'], ['"fd00::1f/'], ['"10.0.0.7/', '"10.0.0.8/'], ['"50%_'], []):
            rows = writer._find_mentioning("host", words) if words else []
            found.append([row.name for row in rows])
        found.append([row.name for row in writer.beneath("host", "web1")])
        writer.put("host", "web99", {"private": []}, "core")
        found.append([row.name for row in writer.mentioning("host", ['"10.0.0.9/'])])

    store.write("shop", "anna", ask)
    assert found[0] == ["web04", *(f"web{it}" for it in range(40, 50))]
    assert found[1:5] == [["web31"], ["web07", "web08"], [f"web{it:02}" for it in range(50)], []]
    assert found[5] == [f"web{it}" for it in range(10, 20)]
    assert {"web09", "web99"} <= set(found[6])
