# SPDX-License-Identifier: Apache-2.0
"""A fleet brings a change in force first; who looked at it and proved it is told one by one then.

A change reaches all hosts at once. If each of them went on at once, too (cut flows, list the rules,
knock at the broker, ask the core, report), the core and the broker would have that to do while
others still wait for the change itself.
"""

from __future__ import annotations

import time

from cnsmo.agent.wakeup import jittered

FEW_HOSTS = 10
"""So many are no crowd."""
SECONDS_PER_HOST = 0.02
LONGEST_SECONDS = 5.0
SHARE = 0.25
"""Of the time for which a change is on trial."""


def pause(hosts: int) -> float:
    """For how long, in seconds, one of so many hosts puts off what nobody waits for."""
    if hosts <= FEW_HOSTS:
        return 0.0
    return jittered(min(hosts * SECONDS_PER_HOST, LONGEST_SECONDS))


class PutOff:
    """What follows a change is put off once, however many changes come meanwhile."""

    def __init__(self) -> None:
        self._until: float | None = None

    def begin(self, seconds: float) -> None:
        """Put it off, if it is not yet."""
        if self._until is None:
            self._until = time.monotonic() + seconds

    def end(self) -> None:
        """It is done now."""
        self._until = None

    @property
    def left(self) -> float:
        """Seconds that it is put off; 0: it is to be done now."""
        return 0.0 if self._until is None else max(0.0, self._until - time.monotonic())
