# SPDX-License-Identifier: Apache-2.0
"""What a running haproxy says of itself, read; pure.

The formats are those of HAProxy's management guide: 9.1 (CSV), ``show servers state``, ``show
proc``, ``show sess``.
"""

from __future__ import annotations

import csv
import dataclasses
import re
from collections.abc import Mapping

MAINTENANCE = 0x01 | 0x02 | 0x20 | 0x40
"""Of srv_admin_state; 0x04 only tells that the file had it so (include/haproxy/server-t.h)."""
DRAINED = 0x08 | 0x10
CHECK_ENABLED = 0x04
STOPPED, RUNNING, STOPPING = 0, 2, 3
"""Of srv_op_state."""
_DESCRIPTION = re.compile(r"^description: cnsmo \S+ ([0-9a-f]{32})$", re.MULTILINE)
_FAILED = re.compile(r"\[failed: (\d+)\]")
_SESSION = re.compile(r"^(0x[0-9a-f]+): .*\bbe=(\S+) srv=(\S+) ", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Seen:
    """A server as the worker has it. ``since``: seconds since its state changed. ``coming``: it is
    down until its first good check."""

    pool: str
    name: str
    ident: int
    address: str
    port: int
    weight: int
    stopped: bool
    drained: bool
    down: bool
    checking: bool
    since: int
    coming: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """By which it is known."""
        return self.pool, self.name

    @property
    def well(self) -> bool:
        """Whether it takes requests."""
        return not (self.stopped or self.drained or self.down)


@dataclasses.dataclass(frozen=True)
class Workers:
    """Process ids: of the master, of the worker that takes new connections, of earlier ones.

    ``failed``: so many times in a row the master could not load the file.
    """

    master: int
    current: int | None
    old: tuple[int, ...]
    failed: int

    @property
    def all(self) -> frozenset[int]:
        """Everybody."""
        return frozenset({self.master, *self.old, *filter(None, [self.current])})


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of statistics. ``kind``: 0 a frontend's, 1 a backend's, 2 a server's."""

    pool: str
    name: str
    kind: int
    fields: Mapping[str, str]

    def number(self, field: str) -> int:
        """A number; 0 where there is none."""
        text = self.fields.get(field, "")
        return int(text) if text.isdecimal() else 0

    def text(self, field: str) -> str:
        """A text; "" where there is none."""
        return self.fields.get(field, "")


def read_fingerprint(info: str) -> str | None:
    """``show info``: which structure runs; None: none of ours."""
    found = _DESCRIPTION.search(info)
    return found[1] if found else None


def read_servers(shown: str) -> list[Seen]:
    """``show servers state``."""
    columns: list[str] = []
    found = []
    for line in shown.splitlines():
        if line.startswith("#"):
            columns = line.removeprefix("#").split()
            continue
        row = dict(zip(columns, line.split(), strict=False))
        if "srv_name" in row and "srv_admin_state" in row:
            found.append(_seen(row))
    return found


def _seen(row: Mapping[str, str]) -> Seen:
    admin, state = int(row["srv_admin_state"]), int(row["srv_op_state"])
    return Seen(
        pool=row["be_name"],
        name=row["srv_name"],
        ident=int(row["srv_id"]),
        address=row["srv_addr"],
        port=int(row["srv_port"]),
        weight=int(row["srv_uweight"]),
        stopped=bool(admin & MAINTENANCE),
        drained=bool(admin & DRAINED),
        down=state in (STOPPED, STOPPING),
        checking=bool(int(row["srv_check_state"]) & CHECK_ENABLED),
        since=int(row["srv_time_since_last_change"]),
        coming=state == STOPPING,
    )


def read_workers(shown: str) -> Workers | None:
    """``show proc``; None when it is no such answer."""
    master, current, old, failed = 0, None, [], 0
    aged = False
    for line in shown.splitlines():
        if line.startswith("#"):
            aged = "old workers" in line
            continue
        words = line.split()
        if len(words) < 2 or not words[0].isdecimal():
            continue
        if words[1] == "master":
            master = int(words[0])
            counted = _FAILED.search(line)
            failed = int(counted[1]) if counted else 0
        elif words[1] == "worker":
            if aged:
                old.append(int(words[0]))
            else:
                current = int(words[0])
    return Workers(master, current, tuple(old), failed) if master else None


def read_rows(shown: str) -> list[Row]:
    """``show stat``."""
    reader = csv.DictReader(shown.removeprefix("# ").splitlines())
    return [
        Row(row["pxname"], row["svname"], int(row["type"]), row)
        for row in reader
        if (row.get("type") or "").isdecimal()
    ]


def read_sessions(shown: str) -> list[tuple[str, tuple[str, str]]]:
    """``show sess``: each one's id, and its pool and server."""
    return [(ident, (pool, name)) for ident, pool, name in _SESSION.findall(shown)]
