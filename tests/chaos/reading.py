# SPDX-License-Identifier: Apache-2.0
"""What a replica's file holds, read from outside while its agent writes to it. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from typing import Any

from cnsmo.model.resource import member_kind
from tests.chaos.cast import DEPLOYMENT
from tests.chaos.history import Copy

MARKER = re.compile(r"\bmark-(\d+)\b")


def copy_of(holder: str, text: str, at: float) -> Copy | None:
    """What the whole records of a file come to; None when there is none.

    :raises AssertionError: when it is another deployment's.
    """
    lines = text.split("\n")
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    revision, history = 0, ""
    for header, body in zip(lines[::2], lines[1::2], strict=False):
        try:
            json.loads(header)
            content = json.loads(body)
        except ValueError:
            break  # a record that is being written
        assert content["deployment"] == DEPLOYMENT
        history, revision = content["host_id"], content["revision"]
        rows |= {(row["kind"], row["name"]): row for row in content["rows"]}
    return copy(holder, history, revision, rows.values(), at) if revision else None


def copy(
    holder: str, history: str, revision: int, rows: Iterable[dict[str, Any]], at: float
) -> Copy:
    """A copy of these rows, as JSON has them."""
    here = [row for row in rows if not row.get("deleted")]
    told = sorted((row["kind"], row["name"], row["revision"]) for row in here)
    text = json.dumps([row["body"] for row in here])
    return Copy(
        holder=holder,
        history=history,
        revision=revision,
        digest=hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16],
        markers=frozenset(int(it) for it in MARKER.findall(text)),
        owners={
            row["name"]: tuple(row["body"]["addresses"])
            for row in here
            if row["kind"] == member_kind("vpn")
        },
        at=at,
    )
