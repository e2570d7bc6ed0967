# SPDX-License-Identifier: Apache-2.0
"""What an agent's worker waits for: reasons to work, and deadlines."""

from __future__ import annotations

import enum
import random
import threading
import time


class Reason(enum.Enum):
    """Why the worker shall look."""

    SYNC = enum.auto()
    """The core has, or may have, something new."""
    RESYNC = enum.auto()
    """Time to look at everything anew, this host's facts too."""
    LOOK = enum.auto()
    """All others know what this host announced: a driver may go on with what it has under way."""
    REPORT = enum.auto()
    """The core forgot, or wants to see, how things stand."""
    FIGURES = enum.auto()
    """Somebody wants to know what is there now; the core has no part in it."""
    STOP = enum.auto()


class Wakeup:
    """Collects reasons; several of a kind are one."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._reasons: set[Reason] = set()

    def give(self, reason: Reason) -> None:
        """Wake the worker."""
        with self._condition:
            self._reasons.add(reason)
            self._condition.notify_all()

    def take(self, until: float | None = None) -> set[Reason]:
        """All reasons since the last call, waiting for one until that monotonic time.

        :return: an empty set when the time came first.
        """
        with self._condition:
            timeout = None if until is None else max(0.0, until - time.monotonic())
            self._condition.wait_for(lambda: bool(self._reasons), timeout)
            reasons, self._reasons = self._reasons, set()
            return reasons

    @property
    def stopping(self) -> bool:
        """Whether STOP was given and not taken yet."""
        with self._condition:
            return Reason.STOP in self._reasons

    def wait_stop(self, seconds: float) -> bool:
        """Wait until STOP is given, at most so long.

        :return: whether it was given.
        """
        with self._condition:
            return self._condition.wait_for(lambda: Reason.STOP in self._reasons, seconds)


class Backoff:
    """Pauses between tries: twice as long each time, up to a bound, each with jitter."""

    def __init__(self, first: float, longest: float) -> None:
        """first, longest: seconds."""
        self._first = first
        self._longest = longest
        self._next = first

    def pause(self) -> float:
        """Seconds to wait before the next try: 50 to 100 % of the current bound."""
        pause = self._next * random.uniform(0.5, 1.0)  # nosec B311
        self._next = min(self._next * 2, self._longest)
        return pause

    def reset(self) -> None:
        """It worked: begin anew."""
        self._next = self._first


def jittered(seconds: float) -> float:
    """70 to 130 % of a period, so that a fleet does not beat in step."""
    return seconds * random.uniform(0.7, 1.3)  # nosec B311
