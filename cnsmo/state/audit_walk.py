# SPDX-License-Identifier: Apache-2.0
"""Following a chain of the audit line by line; pure."""

from __future__ import annotations

import json
from typing import Any

from cnsmo.model.audit import BROKEN, CHECKPOINT, GENESIS, AuditLine
from cnsmo.model.names import printable
from cnsmo.state.audit import Chain


class Walk:
    """Follows a chain, and notes what is wrong."""

    def __init__(self, checkpoint: tuple[int, str] = (0, "")) -> None:
        """checkpoint: the newest that is known before: up to which line older ones were forgotten,
        and that line's digest."""
        self.first = 0
        self._last = 0
        self._head: str | None = GENESIS
        """The digest of the last line; None where what stands before the next one is unknown."""
        self._problems: list[str] = []
        self._oldest: AuditLine | None = None
        """The first line, where older ones were forgotten."""
        self._checkpoint = checkpoint

    def step(self, line: AuditLine) -> None:
        """The next line."""
        if self.first == 0:
            self._begin(line)
        if line.number != self._last + 1:
            self._problems.append(f"{_range(self._last + 1, line.number - 1)} missing")
            self._head = None
        if line.action == BROKEN:
            self._head = GENESIS
            self._problems.append(f"before line {line.number} a core found that {_why(line)}")
        if self._head is not None and line.hash != line.digest(self._head):
            self._problems.append(f"line {line.number} was altered, or follows one that was")
        elif line.action == CHECKPOINT:
            self._checkpoint = checkpoint_of(line)
        self._last, self._head = line.number, line.hash

    def _begin(self, line: AuditLine) -> None:
        self.first = line.number
        if line.number > 1:
            self._oldest, self._last, self._head = line, line.number - 1, None

    def problems(self) -> list[str]:
        """What is wrong so far."""
        return [*self._at_the_beginning(), *self._problems]

    def ending(self, end: Chain) -> list[str]:
        """What is wrong with the chain, given where it ends."""
        return [*self.problems(), *self._at_the_end(end)]

    def _at_the_beginning(self) -> list[str]:
        """Older lines may be gone only if a checkpoint says so, and the first one follows them."""
        if self._oldest is None:
            return []
        through, digest = self._checkpoint
        if through != self.first - 1:
            return [f"{_range(through + 1, self.first - 1)} missing, of which no checkpoint tells"]
        if self._oldest.hash != self._oldest.digest(digest):
            return [f"line {self.first} was altered, or the checkpoint that stands for older ones"]
        return []

    def _at_the_end(self, end: Chain) -> list[str]:
        if self._last < end.lines:
            return [f"{_range(self._last + 1, end.lines)} missing at its end"]
        if self._last > end.lines:
            return [f"{_range(end.lines + 1, self._last)} behind its end"]
        if end.lines and self._head != end.head:
            return [f"line {end.lines} is not the one that it ends with"]
        return []


def checkpoint_of(line: AuditLine) -> tuple[int, str]:
    """Up to which line it says that older ones were forgotten, and that line's digest."""
    told = _after(line)
    through = told.get("through")
    return (through if isinstance(through, int) else 0, str(told.get("hash")))


def _why(line: AuditLine) -> str:
    return printable(str(_after(line).get("why")))


def _after(line: AuditLine) -> dict[str, Any]:
    """What it says; who writes the database may have made it say anything."""
    try:
        told = json.loads(line.after)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _range(first: int, last: int) -> str:
    return f"line {first} is" if first == last else f"lines {first} to {last} are"
