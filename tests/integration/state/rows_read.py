# SPDX-License-Identifier: Apache-2.0
"""How many statements something sends, and how many rows the database reads for them."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

Sent = list[tuple[str, Any]]
"""Statements with their parameters, as the driver got them."""


@contextlib.contextmanager
def statements(engine: sa.Engine) -> Iterator[Sent]:
    """All that are sent while the context lasts; what is executed for many is one."""
    found: Sent = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        found.append((statement, parameters))

    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)


def rows_read(engine: sa.Engine, statement: str, parameters: Any) -> int:
    """Rows that the database looks at when it executes a query, as it says itself.

    SQLite does not count: there, what it finds by an index with a bound is as few as it tells, and
    everything else is as many as the table has.
    """
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            return _of_sqlite(connection, statement, parameters)
        if engine.dialect.name == "postgresql":
            (plan,) = _asked(connection, f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
            return sum(_of_postgresql(plan[0][0]["Plan"]))
        (plan,) = _asked(connection, f"ANALYZE FORMAT=JSON {statement}", parameters)
        return round(sum(_of_mariadb(json.loads(plan[0]))))


def analyze(engine: sa.Engine) -> None:
    """Let the database know how large its tables are, as it finds out by itself after a while."""
    with engine.connect() as connection, connection.begin():
        told = "ANALYZE TABLE resources, deployments"
        mysql = engine.dialect.name in ("mysql", "mariadb")
        connection.exec_driver_sql(told if mysql else "ANALYZE")


def _asked(connection: sa.Connection, statement: str, parameters: Any) -> list[Any]:
    return list(connection.exec_driver_sql(statement, parameters))


def _of_sqlite(connection: sa.Connection, statement: str, parameters: Any) -> int:
    found = len(_asked(connection, statement, parameters))
    total = 0
    for *_numbers, step in _asked(connection, f"EXPLAIN QUERY PLAN {statement}", parameters):
        what, _space, rest = step.partition(" ")
        table = rest.partition(" ")[0]
        if what == "SEARCH" and ("revision>?" in rest or "name=?" in rest):
            total += found
        elif what in ("SEARCH", "SCAN"):
            total += connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()
    return total


def _of_postgresql(node: dict[str, Any]) -> Iterator[int]:
    if "Relation Name" in node:
        read = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
        yield round(read * node["Actual Loops"])
    for part in node.get("Plans", ()):
        yield from _of_postgresql(part)


def _of_mariadb(node: Any) -> Iterator[float]:
    if isinstance(node, list):
        for part in node:
            yield from _of_mariadb(part)
    elif isinstance(node, dict):
        if "table_name" in node:
            yield (node.get("r_rows") or 0) * (node.get("r_loops") or 0)
        for part in node.values():
            yield from _of_mariadb(part)
