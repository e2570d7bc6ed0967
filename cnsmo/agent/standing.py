# SPDX-License-Identifier: Apache-2.0
"""How each service of this process stands: the worker writes it down, other threads read it."""

from __future__ import annotations

import dataclasses
import threading
import time
from math import inf

from cnsmo.agent.reconcile import Outcome
from cnsmo.agent.wakeup import Reason, Wakeup
from cnsmo.services.base import NetworkService

FRESH_SECONDS = 1.0
"""What was seen so recently is not looked at anew for a reader."""
PATIENCE = 3.0
"""Seconds for which a reader waits for a worker that is busy; less than any scrape's time-out."""


@dataclasses.dataclass(frozen=True)
class Stand:
    """A service's last outcome, and the revision that it has in force."""

    service: NetworkService
    outcome: Outcome
    applied_revision: int


class Standing:
    """The services that have had an outcome yet."""

    def __init__(self, wakeup: Wakeup) -> None:
        self._wakeup = wakeup
        self._condition = threading.Condition()
        self._stands: dict[str, Stand] = {}
        self._looked = -inf

    def note(self, service: NetworkService, outcome: Outcome, applied_revision: int) -> None:
        """Where a service stands by now."""
        with self._condition:
            self._stands[service.name] = Stand(service, outcome, applied_revision)

    def looked(self) -> None:
        """All services that have figures were looked at just now."""
        with self._condition:
            self._looked = time.monotonic()
            self._condition.notify_all()

    def last(self, service: NetworkService) -> Stand | None:
        """Where a service stands, as noted."""
        with self._condition:
            return self._stands.get(service.name)

    def known(self) -> list[Stand]:
        """Where all stand, as noted."""
        with self._condition:
            return list(self._stands.values())

    def read(self) -> list[Stand]:
        """Where all stand now: the worker is asked to look, unless it did so just before.

        When it is busy for longer than PATIENCE: as they stood when it looked last.
        """
        with self._condition:
            asked = time.monotonic()
            if asked - self._looked > FRESH_SECONDS:
                self._wakeup.give(Reason.FIGURES)
                self._condition.wait_for(lambda: self._looked >= asked, PATIENCE)
            return list(self._stands.values())
