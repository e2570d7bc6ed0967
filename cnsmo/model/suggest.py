# SPDX-License-Identifier: Apache-2.0
"""What somebody may have meant who wrote a word that nobody knows."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A remedy: the known word that is closest, if one is close, and all known ones."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    listed = "known: " + (", ".join(names) or "none")
    return f"did you mean {close[0]!r}? {listed}" if close else listed
