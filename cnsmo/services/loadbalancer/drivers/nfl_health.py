# SPDX-License-Identifier: Apache-2.0
"""Which servers are well, from what checks of them came to. Standard library only; pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether a server is well, by which result, since when (seconds of the epoch).

    ``proven``: it was well at least once. ``falls``: how often it was found not to be any more.
    """

    up: bool
    why: str
    since: float
    proven: bool
    falls: int = 0


class Judge:
    """Counts results. A server that never was well is in at its first good one; after that so many
    in a row are needed: ``rise`` to be in again, ``fall`` to be out."""

    def __init__(self, verdicts: Mapping[str, Verdict]) -> None:
        """verdicts: those of an earlier process, by key."""
        self.verdicts = dict(verdicts)
        self._against: dict[str, int] = {}

    def keep(self, keys: Collection[str], known: Collection[str], now: float) -> bool:
        """Forget all servers but these; known: those that are in use, and so taken for well.

        :return: whether a verdict changed.
        """
        before = dict(self.verdicts)
        presumed = Verdict(True, "in use before it was checked", now, True)
        self.verdicts = {
            **{key: presumed for key in known if key in keys},
            **{key: it for key, it in self.verdicts.items() if key in keys},
        }
        self._against = {key: it for key, it in self._against.items() if key in keys}
        return self.verdicts != before

    def hear(self, key: str, well: bool, why: str, needed: tuple[int, int], now: float) -> bool:
        """Take a result; needed: rise and fall.

        :return: whether the verdict changed, be it in its reason.
        """
        verdict = self.verdicts.get(key)
        if verdict is not None and verdict.up == well:
            self._against.pop(key, None)
            self.verdicts[key] = dataclasses.replace(verdict, why=why)
            return verdict.why != why
        rise, fall = needed
        count = self._against[key] = self._against.get(key, 0) + 1
        if verdict is not None and count < (fall if verdict.up else rise if verdict.proven else 1):
            return False
        proven = well or (verdict is not None and verdict.proven)
        falls = (verdict.falls if verdict else 0) + (not well and proven)
        self.verdicts[key] = Verdict(well, why, now, proven, falls)
        self._against.pop(key)
        return True
