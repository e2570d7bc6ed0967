# SPDX-License-Identifier: Apache-2.0
"""Logs of which no line was written by somebody else: each event is one line of plain text."""

from __future__ import annotations

import logging


class OneLine(logging.Filter):
    """Writes what cannot be printed (line breaks, controls of a terminal) with its escapes.

    Libraries log names that a stranger chose, as that of the queue to which he wants his answer.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Called by logging for each record."""
        said = record.getMessage()
        if not said.isprintable():
            record.msg, record.args = escaped(said), ()
        return True


def escaped(text: str) -> str:
    """The text with an escape for each character that cannot be printed."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def guard() -> None:
    """Keep to one line whatever is logged from now on, by all handlers that there are."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(OneLine())
