# SPDX-License-Identifier: Apache-2.0
"""How often one host may call: far above what an agent does, far below what hurts others."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from cnsmo.core.join_limits import Rate
from cnsmo.model.errors import Unavailable

PACE: Mapping[str, tuple[float, int]] = {
    "certify": (1 / 10, 10),
    "sync": (20, 200),
    "sync_part": (20, 200),
    "facts": (1 / 30, 10),
    "announce": (1 / 5, 60),
    "withdraw": (1 / 5, 60),
    "report": (3, 60),
    "heartbeat": (5, 60),
    "leave": (1 / 10, 10),
}
"""Of each call: how many a second in the long run, and how many at once. What writes rows and lines
of the audit is dear: all others hear of it. Each core counts for itself."""


class CallLimits:
    """Remembers how often hosts called of late."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._rates = {call: Rate(*pace, clock) for call, pace in PACE.items()}

    def take(self, call: str, ident: str) -> None:
        """Let a host, which has proven who it is, make a call.

        :raises Unavailable: when it calls too often; agents pause then, and try again.
        """
        wait = self._rates[call].wait(ident)
        if wait:
            raise Unavailable(f"this host calls {call} too often: again in {wait:.1f} s")
