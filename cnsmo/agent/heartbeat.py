# SPDX-License-Identifier: Apache-2.0
"""Signs of life, on a thread of their own: a driver that takes long is not mistaken for dead."""

from __future__ import annotations

import datetime
import threading
import time
from collections.abc import Iterable, Mapping

from oslo_log import log

from cnsmo.agent.rounds import heard, is_newly_asked
from cnsmo.agent.wakeup import Reason, Wakeup, jittered
from cnsmo.bus.clients import CoreClient
from cnsmo.model.errors import CnsmoError, Unavailable
from cnsmo.model.messages import Heartbeat

LOG = log.getLogger(__name__)
LATENCY = datetime.timedelta(seconds=60)
"""So long no answer is on its way: a core that tells an earlier time had its clock set back."""


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
        self._told: tuple[datetime.datetime, float] | None = None
        self._latest: datetime.datetime | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.heard_at = time.monotonic()
        """When the core answered last; it is believed to be there at first."""
        self.confirmed: dict[str, int] = {}
        """By service, the revision that all its agents that live and work have applied."""
        self.misheard = False
        """Whether the core says something else of our agents than it took from the worker.

        Beats ask for a report then, not the worker at once: two VMs that claim to be one host
        shall not contradict each other in haste.
        """

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

    def knows(self, revision: int, announced: Mapping[str, int], misheard: bool = False) -> None:
        """Note what the replica has.

        announced: by service, the newest revision of our own rows. misheard: see there.
        """
        self._seen = revision
        self._announced = announced
        self.misheard = misheard

    def is_asked(self, observe_at: datetime.datetime | None) -> bool:
        """Whether an operator wants to see how things stand, who was not heard until now.

        observe_at: when the last operator asked, as the core says with what changed.
        """
        if not is_newly_asked(observe_at, self._looked):
            return False
        self._looked = observe_at
        return True

    def time(self) -> datetime.datetime | None:
        """What time it is by the cores' clock, as the last answer told; None: there was none yet.

        Rather a little early than late, and not earlier than before: what is said later was made
        later, unless the cores' clock was set back. Ours may be wrong, and a host may have slept.
        """
        if self._told is None:
            return None
        moment, then = self._told
        found = moment + datetime.timedelta(seconds=_running() - then)
        if self._latest is None or not found < self._latest < found + LATENCY:
            self._latest = found
        return self._latest

    def beat(self, catch_up: bool = True) -> None:
        """One beat, now. A core that does not answer is left to the worker to worry about.

        catch_up: ask for what is newer than what we have. Not right after we asked: there is a
        hint on its way, and in a burst of changes the hints keep the pace.
        """
        try:
            beat = Heartbeat(applied=dict(self._applied), made_at=self.time())
            answer = self._client.heartbeat(beat)
        except CnsmoError as exc:
            LOG.debug("heartbeat: %s", exc)
            if not isinstance(exc, Unavailable):  # the worker finds out what it means
                self._wakeup.give(Reason.SYNC)
            return
        self.heard_at = time.monotonic()
        if answer.now is not None:
            self._told = answer.now, _running()
        found = heard(
            answer, self._seen, self._announced, self.confirmed, self._looked, self.misheard
        )
        self.confirmed = answer.confirmed
        if catch_up and found.sync:
            self._wakeup.give(Reason.SYNC)
        if found.look:
            self._wakeup.give(Reason.LOOK)
        if found.report:
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


def _running() -> float:
    """Seconds since the host was started; a suspended one does not stop it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
