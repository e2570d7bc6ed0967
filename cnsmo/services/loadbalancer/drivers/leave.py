# SPDX-License-Identifier: Apache-2.0
"""Servers that leave a pool: who serves on, until when, and when what they have is ended; the same
for all drivers. Standard library only; pure.

One that is not wanted any more is stopped: it gets nothing new, and keeps for ``drain`` seconds
from then on what it has. But where nobody who shall serve is well yet, as when all are replaced at
once, it is held before: it serves on until somebody is, for ``drain`` seconds at most. Once
stopped, it is never held again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import NamedTuple


class Member(NamedTuple):
    """A server that a pool shall have. ``drained``: by an operator's word."""

    weight: int
    drained: bool
    well: bool


@dataclasses.dataclass(frozen=True)
class Leave:
    """One that leaves, in seconds of the clock that its driver goes by. ``hold``: until then it may
    be held. ``until``: what it has is ended then; None: it was not stopped yet."""

    hold: float
    until: float | None = None

    def over(self, now: float) -> bool:
        """Whether its time is over."""
        return self.until is not None and self.until <= now

    def due(self, now: float) -> float | None:
        """When something happens to it by itself; None: it happened."""
        when = self.hold if self.until is None else self.until
        return when if when > now else None

    def told(self, now: float, ending: str) -> str:
        """What people are told of it, in one line; ending: what happens after the drain."""
        if self.until is None:
            return f"nobody else is well: it serves on, for {max(0.0, self.hold - now):.0f} s more"
        return f"{ending} in {max(0.0, self.until - now):.0f} s"


def bare(members: Iterable[Member]) -> bool:
    """Whether somebody of a pool shall serve, and nobody who shall is well."""
    shall = [it for it in members if it.weight and not it.drained]
    return bool(shall) and not any(it.well for it in shall)


def go_on(
    leave: Leave | None, needed: bool, drain: float, now: float, distrusted: bool = False
) -> Leave:
    """How it goes on with one; leave: how it was, None where it begins to leave.

    needed: whether its pool is bare, and it can serve. distrusted: it is thrown out, and keeps
    nothing, whoever else is well. A drain that became shorter holds at once, a
    longer one is for those who leave later.
    """
    if distrusted:
        return Leave(min(now, leave.hold) if leave else now, now)
    end = now + drain
    hold = min(leave.hold, end) if leave else end
    if leave is not None and leave.until is not None:
        return Leave(hold, min(leave.until, end))
    return Leave(hold) if needed and now < hold else Leave(hold, end)
