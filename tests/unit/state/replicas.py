# SPDX-License-Identifier: Apache-2.0
"""Rows to try replicas with."""

import datetime
from pathlib import Path

from cnsmo.model.resource import OPERATOR, Changes, Row
from cnsmo.state.replica import Replica

NOW = datetime.datetime(2026, 11, 22, tzinfo=datetime.UTC)


def row(name: str, revision: int, deleted: bool = False, value: object = 1) -> Row:
    """One thing at a revision."""
    return Row(
        kind="thing",
        name=name,
        owner=OPERATOR,
        revision=revision,
        deleted=deleted,
        body={"value": value},
        updated_at=NOW,
    )


def changes(head: int, *rows: Row, snapshot: bool = False) -> Changes:
    """What a core answers to "what changed"."""
    return Changes(deployment="shop", head=head, snapshot=snapshot, rows=list(rows))


def saved_thrice(path: Path) -> dict[int, list[Row]]:
    """What a replica of h-1 held at each revision at which it was saved, to one file."""
    replica, found = Replica(path, "shop", "h-1"), {}
    for told in (
        changes(2, row("a", 1), row("b", 2, value="grüße 😀"), snapshot=True),
        changes(3, row("a", 3, deleted=True), row("c", 3, value="ñ")),
        changes(5, row("a", 5)),
    ):
        replica.update(told)
        replica.save()
        found[replica.revision] = list(replica.view())
    return found
