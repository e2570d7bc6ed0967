# SPDX-License-Identifier: Apache-2.0
"""When which server is checked, and which checks are under way. Standard library only.

Times are of the monotonic clock.
"""

from __future__ import annotations

import collections
import heapq
import zlib

from cnsmo.services.loadbalancer.drivers.nfl_probe import Probe
from cnsmo.services.loadbalancer.drivers.nfl_wanted import Inspection, Target

AT_ONCE = 8
"""Checks of one server that may be under way: more than one where the timeout is long."""


class Rounds:
    """Each server's turns."""

    def __init__(self) -> None:
        self._check: Inspection | None = None
        self._targets: dict[str, Target] = {}
        self._turns: list[tuple[float, str]] = []
        self._under_way: dict[str, list[Probe]] = {}
        self._deadlines: collections.deque[Probe] = collections.deque()

    def plan(self, check: Inspection, targets: dict[str, Target], now: float) -> list[Probe]:
        """Check these from now on, who is new at once; what is under way and pointless now."""
        same = check == self._check
        turns = {key: when for when, key in self._turns} if same else {}
        dropped = [key for key in self._under_way if not same or key not in targets]
        self._check, self._targets = check, targets
        self._turns = [(turns.get(key, now), key) for key in targets]
        heapq.heapify(self._turns)
        return [probe for key in dropped for probe in self._under_way.pop(key)]

    def begin(self, now: float) -> list[Probe]:
        """The checks that are due."""
        found = []
        while self._check and self._turns and self._turns[0][0] <= now:
            key = self._turns[0][1]
            heapq.heapreplace(self._turns, (_next_turn(key, now, self._check.interval), key))
            mine = self._under_way.setdefault(key, [])
            if len(mine) < AT_ONCE:
                mine.append(Probe(self._targets[key], self._check, now))
                found.append(mine[-1])
        self._deadlines += found
        return found

    def over(self, probe: Probe) -> list[Probe]:
        """A check has a result; the earlier ones of the same server, which do not count any more.

        None, not even this one, where nobody asks for it any more.
        """
        mine = self._under_way.get(probe.target.key, [])
        if probe not in mine:
            return []
        count = mine.index(probe) + 1
        passed, mine[:] = mine[:count], mine[count:]
        return passed

    def expired(self, now: float) -> list[Probe]:
        """Checks whose time is over."""
        found = []
        while self._deadlines and self._deadlines[0].deadline <= now:
            probe = self._deadlines.popleft()
            if probe in self._under_way.get(probe.target.key, ()):
                found.append(probe)
        return found

    def next(self) -> float:
        """When something is due."""
        turn = self._turns[0][0] if self._turns else float("inf")
        return min(turn, self._deadlines[0].deadline if self._deadlines else float("inf"))


def _next_turn(key: str, now: float, interval: float) -> float:
    """Each server has its own phase of the interval, so that not all are checked in one moment."""
    phase = zlib.crc32(key.encode()) / (1 << 32) * interval
    turn = phase + ((now - phase) // interval + 1) * interval
    return turn if turn - now > interval / 100 else turn + interval
