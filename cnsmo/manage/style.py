# SPDX-License-Identifier: Apache-2.0
"""Colour, on a terminal only; NO_COLOR turns it off (see no-color.org)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TextIO

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_STATES = {
    "ready": "green",
    "degraded": "yellow",
    "configuring": "cyan",
    "joining": "cyan",
    "error": "red",
    "late": "yellow",
    "down": "red",
    "left": "dim",
}


class Style:
    """Colours words, or leaves them alone."""

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled

    @classmethod
    def of(cls, stream: TextIO, env: Mapping[str, str]) -> Style:
        """Colour where the stream is a terminal and its owner has nothing against it."""
        return cls(stream.isatty() and not env.get("NO_COLOR") and env.get("TERM") != "dumb")

    def paint(self, text: str, colour: str) -> str:
        """The text in a colour, or bold or dim."""
        return f"\033[{_CODES[colour]}m{text}\033[0m" if self.enabled else text

    def state(self, state: str, text: str | None = None) -> str:
        """An agent's state, or a text about it, in the state's colour."""
        text = state if text is None else text
        return self.paint(text, _STATES[state]) if state in _STATES else text
