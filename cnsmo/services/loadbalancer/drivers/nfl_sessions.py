# SPDX-License-Identifier: Apache-2.0
"""The flows that are balanced now, for people; counted no more often than is cheap.

A carrier may have a hundred thousand of them, which take seconds to list and to read, on the one
thread that the agent works with.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from cnsmo.services.loadbalancer.drivers import nfl_flows
from cnsmo.services.loadbalancer.drivers.nfl_flows import Flow
from cnsmo.services.loadbalancer.drivers.nfl_wanted import Wanted

FEW = 2000
"""So many flows, or fewer, are always counted anew: listing them takes a few milliseconds."""
SHARE = 0.02
"""How much of the time may be spent on it: what took a second is not asked again for fifty."""


class Sessions:
    """Remembers what it counted, for as long as counting anew would take too much."""

    def __init__(
        self,
        listed: Callable[[str, Iterable[int]], Iterable[str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """listed: lines of conntrack(8), of a protocol and the ports that flows arrived at."""
        self._listed = listed
        self._clock = clock
        self._of: tuple[str, tuple[int, ...]] | None = None
        self._next = 0.0
        self._alive: list[Flow] = []

    def alive(self, wanted: Wanted) -> list[Flow]:
        """Those that are not over."""
        asked = wanted.protocol, tuple(wanted.ports)
        begun = self._clock()
        if asked == self._of and begun < self._next:
            return self._alive
        found = nfl_flows.read(self._listed(*asked))
        self._alive = [it for it in found if not it.over]
        self._of, now = asked, self._clock()
        self._next = now + (now - begun) * (1 / SHARE - 1) if len(found) > FEW else now
        return self._alive
