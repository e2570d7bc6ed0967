# SPDX-License-Identifier: Apache-2.0
"""How well a process is, in a word and its reasons: what ``/healthz`` answers."""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Iterable


class Level(enum.StrEnum):
    """How well something is."""

    OK = "ok"
    DEGRADED = "degraded"
    """It does its work; something beside it does not."""
    FAILING = "failing"
    """It does not do its work: who chooses among several passes this one over."""


ORDER = tuple(Level)
"""The worst last."""


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing that was looked at; ``reason``: empty when it is well. Never a secret."""

    name: str
    level: Level = Level.OK
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Health:
    """What was looked at, all of it."""

    checks: tuple[Check, ...]

    @classmethod
    def of(cls, checks: Iterable[Check]) -> Health:
        """Made of these."""
        return cls(tuple(checks))

    @property
    def level(self) -> Level:
        """The worst of all."""
        return max((it.level for it in self.checks), key=ORDER.index, default=Level.OK)

    @property
    def status(self) -> str:
        """What HTTP calls it."""
        return "503 Service Unavailable" if self.level is Level.FAILING else "200 OK"

    def text(self) -> str:
        """As JSON."""
        told = {it.name: {"status": it.level, "reason": it.reason} for it in self.checks}
        return json.dumps({"status": self.level, "checks": told}) + "\n"
