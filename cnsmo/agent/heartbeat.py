# SPDX-License-Identifier: Apache-2.0
"""Signs of life, on a thread of their own: a driver that takes long is not mistaken for dead."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Iterable, Mapping

from oslo_log import log

from cnsmo.agent.wakeup import Reason, Wakeup, jittered
from cnsmo.bus.clients import CoreClient
from cnsmo.model.errors import CnsmoError, Unavailable
from cnsmo.model.messages import Heartbeat

LOG = log.getLogger(__name__)


class Heart:
    """Beats with jitter; wakes the worker when the answer tells that something was missed."""

    def __init__(
        self, period: float, services: Iterable[str], client: CoreClient, wakeup: Wakeup
    ) -> None:
        """period: seconds on average; services: whose agents live in this process."""
        self._period = period
        self._client = client
        self._wakeup = wakeup
        self._applied = dict.fromkeys(services, 0)
        self._seen = 0
        self._announced: Mapping[str, int] = {}
        self._looked: datetime.datetime | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.confirmed: dict[str, int] = {}
        """By service, the revision that all its agents that live and work have applied."""

    def start(self) -> None:
        """Begin to beat."""
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End, without waiting for a core that does not answer."""
        self._stop.set()

    def applied(self, service: str, revision: int) -> None:
        """Note what is in force; the next beat says so."""
        self._applied[service] = revision

    def applied_revision(self, service: str) -> int:
        """What is in force for a service."""
        return self._applied.get(service, 0)

    def knows(self, revision: int, announced: Mapping[str, int]) -> None:
        """Note what the replica has; announced: by service, the newest revision of our own rows."""
        self._seen = revision
        self._announced = announced

    def beat(self, catch_up: bool = True) -> None:
        """One beat, now. A core that does not answer is left to the worker to worry about.

        catch_up: ask for what is newer than what we have. Not right after we asked: there is a
        hint on its way, and in a burst of changes the hints keep the pace.
        """
        try:
            answer = self._client.heartbeat(Heartbeat(applied=dict(self._applied)))
        except CnsmoError as exc:
            LOG.debug("heartbeat: %s", exc)
            if not isinstance(exc, Unavailable):  # the worker finds out what it means
                self._wakeup.give(Reason.SYNC)
            return
        newly = any(
            self.confirmed.get(service, 0) < announced <= answer.confirmed.get(service, 0)
            for service, announced in self._announced.items()
        )
        self.confirmed = answer.confirmed
        if catch_up and answer.head != self._seen:
            self._wakeup.give(Reason.SYNC)
        if newly:
            self._wakeup.give(Reason.LOOK)
        if answer.forgotten or (answer.observe_at and answer.observe_at != self._looked):
            self._looked = answer.observe_at
            self._wakeup.give(Reason.REPORT)

    def beat_until_confirmed(self, service: str) -> None:
        """One beat, now, if others do not know yet what was announced: a driver waits for that."""
        if self.confirmed.get(service, 0) < self._announced.get(service, 0):
            self.beat()

    def _run(self) -> None:
        while not self._stop.wait(jittered(self._period)):
            try:
                self.beat()
            except Exception:  # who beats no more is taken for dead; the log has the reason
                LOG.exception("heartbeat: unforeseen")
