# SPDX-License-Identifier: Apache-2.0
"""The agent's System, and when each program that it ran began and ended."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from cnsmo.agent.system import LocalSystem
from cnsmo.services.base import Completed


class Ran(NamedTuple):
    """A program's command line, and the monotonic times at which it began and ended."""

    line: str
    begun: float
    ended: float


class TimedSystem(LocalSystem):
    """Runs programs where it is. ``ran``: what has ended, whoever is interested empties it."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: list[Ran] = []

    def run(
        self,
        *args: str,
        stdin: str | None = None,
        timeout: float = 10.0,
        ok: Sequence[int] = (0,),
    ) -> Completed:
        begun = time.monotonic()
        try:
            return super().run(*args, stdin=stdin, timeout=timeout, ok=ok)
        finally:
            self.ran.append(Ran(" ".join(args), begun, time.monotonic()))

    def loaded_at(self) -> float:
        """When the last commands for the kernel's rules were carried out."""
        return max(each.ended for each in self.ran if each.line == "nft -f -")
