# SPDX-License-Identifier: Apache-2.0
"""Asks the cores what changed, part by part; cores that do not know parts are asked for all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cnsmo.bus.versions import Versions
from cnsmo.model.errors import CnsmoError
from cnsmo.model.parts import Collected

IN_PARTS = "sync_part"


class Parts:
    """What one reader has been told of an answer that is not whole yet.

    It is kept when a call fails, and the next try goes on from there; it ends with the process.
    """

    def __init__(self, versions: Versions, tell: Callable[[int, Any], Any]) -> None:
        """tell: calls a core, with since when and the mark, and returns a Part."""
        self._versions = versions
        self._tell = tell
        self._collected = Collected(0)

    def forget(self) -> None:
        """Somebody else asks from now on."""
        self._collected = Collected(0)

    def sync(self, since: int) -> Any:
        """The answer, put together; None where a core is asked that does not know parts."""
        while self._versions.takes(IN_PARTS):
            try:
                return self._collect(since)
            except CnsmoError:
                if self._versions.takes(IN_PARTS):
                    raise
        self.forget()
        return None

    def _collect(self, since: int) -> Any:
        if self._collected.since != since:
            self._collected = Collected(since)
        while True:
            mark = self._collected.mark
            told = self._tell(since, mark and mark.model_dump(mode="json"))
            self._collected = self._collected.taking(told)
            answer = self._collected.answer()
            if answer is not None:
                self._collected = Collected(since)
                return answer
