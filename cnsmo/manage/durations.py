# SPDX-License-Identifier: Apache-2.0
"""Durations as people write them: 90, 30s, 15m, 1h, 7d, 2w, 1d12h."""

from __future__ import annotations

import argparse
import re

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_PART = re.compile(r"(\d+)([smhdw])")
_WHOLE = re.compile(r"\d{1,12}|(\d{1,9}[smhdw])+")


def seconds(text: str) -> int:
    """Seconds of a duration; for argparse.

    :raises argparse.ArgumentTypeError: when it is none.
    """
    if not _WHOLE.fullmatch(text) or not text.isascii():
        raise argparse.ArgumentTypeError(
            f"{text!r} is no duration: write seconds, or a number and a unit: 30s, 15m, 1h, 7d, 2w"
        )
    if text.isdigit():
        return int(text)
    return sum(int(count) * _SECONDS[unit] for count, unit in _PART.findall(text))


def words(duration: float) -> str:
    """A duration for people, in the largest unit that is exact: ``7 days``, ``90 s``."""
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if duration and duration % size == 0:
            count = int(duration // size)
            return f"{count} {unit}{'s' if count != 1 else ''}"
    return f"{duration:g} s"
