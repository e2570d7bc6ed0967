# SPDX-License-Identifier: Apache-2.0
"""What a core counts of its own work, where somebody asks for it."""

from __future__ import annotations

from typing import Protocol

AGENTS, OPERATORS, JOINS = "agent", "operator", "join"
"""Who calls."""


class Counting(Protocol):
    """Counts; from any thread."""

    def call(self, caller: str, call: str, outcome: str, seconds: float) -> None:
        """A call was answered. outcome: ``ok``, or the code of the error."""

    def hint(self, sent: bool) -> None:
        """A hint was sent, or could not be."""


class Uncounted:
    """Nobody asks."""

    def call(self, caller: str, call: str, outcome: str, seconds: float) -> None:
        """Nothing."""

    def hint(self, sent: bool) -> None:
        """Nothing."""


UNCOUNTED = Uncounted()
