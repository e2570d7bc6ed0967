# SPDX-License-Identifier: Apache-2.0
"""What agents' calls say beside what they ask: their clock, and how old their program is.

Nothing is decided by it: it is told to who looks for what may go wrong.
"""

from __future__ import annotations

import collections
import math
import threading
import time
from typing import Any

from cnsmo.model.presence import AgentSeen
from cnsmo.state.identities import Identity

KEPT_SECONDS = 600.0
"""Who was not heard for so long is forgotten."""
SAMPLES = 3
"""Of the latest, the least skew counts: a call that waited for a core makes a clock look slow."""
MAX_WORD = 32


class Sightings:
    """Who was heard lately by this process; from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[str, _Seen] = {}

    def note(self, who: Identity, context: dict[str, Any]) -> None:
        """An agent proved to be who it is. context: of its call, of which nothing is believed."""
        now, clock = time.time(), context.get("agent_clock")
        with self._lock:
            seen = self._seen.setdefault(who.id, _Seen(who))
            seen.at = time.monotonic()
            seen.rpc, seen.release = _word(context, "agent_rpc"), _word(context, "agent_release")
            if isinstance(clock, float) and math.isfinite(clock):
                seen.skews.append(clock - now)

    def lately(self) -> list[AgentSeen]:
        """All of them."""
        oldest = time.monotonic() - KEPT_SECONDS
        with self._lock:
            self._seen = {ident: it for ident, it in self._seen.items() if it.at >= oldest}
            return [it.told() for it in self._seen.values()]


class _Seen:
    def __init__(self, who: Identity) -> None:
        self._who = who
        self.at = 0.0
        self.rpc = self.release = ""
        self.skews: collections.deque[float] = collections.deque(maxlen=SAMPLES)

    def told(self) -> AgentSeen:
        skew = min(self.skews, key=abs) if self.skews else None
        return AgentSeen(
            deployment=self._who.deployment,
            host=self._who.host,
            skew=skew,
            rpc=self.rpc,
            release=self.release,
        )


def _word(context: dict[str, Any], key: str) -> str:
    value = context.get(key)
    good = isinstance(value, str) and value.isascii() and value.isprintable()
    return str(value)[:MAX_WORD] if good else ""
