# SPDX-License-Identifier: Apache-2.0
"""Hints: "the head is 42", at most one per interval and deployment, to every host of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from oslo_log import log

LOG = log.getLogger(__name__)
SECONDS_PER_HOST = 0.001
LAZY_SECONDS = 0.5
"""How long news that nobody waits for may wait for company."""


class Hinter:
    """Tells the agents of a deployment that there is something new.

    The first hint leaves at once; what comes within the interval after it is told by one more at
    its end. The interval grows with the number of hosts. News that no service
    needs soon (an agent is ready, a host joins a VPN) wait a little: most often more is about to
    follow, and that leaves at once. A lost hint costs one heartbeat.
    """

    def __init__(
        self,
        interval: float,
        hosts: Callable[[str], list[str]],
        cast: Callable[[str, int], None],
    ) -> None:
        """interval in seconds; hosts: ids of a deployment's hosts; cast: send one hint."""
        self._interval = interval
        self._hosts = hosts
        self._cast = cast
        self._pending: dict[str, int] = {}
        self._patient_until: dict[str, float] = {}
        self._not_before: dict[str, float] = {}
        self._changed = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to send."""
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="hints", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Send what is pending, and end."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def notify(self, deployment: str, head: int, lazy: bool = False) -> None:
        """Note that a deployment has a new head; returns at once.

        lazy: no service needs soon what is new.
        """
        until = time.monotonic() + LAZY_SECONDS if lazy else 0.0
        with self._changed:
            if deployment in self._pending:
                until = min(until, self._patient_until[deployment])
            self._patient_until[deployment] = until
            self._pending[deployment] = max(head, self._pending.get(deployment, 0))
            self._changed.notify_all()

    def part(self, ident: str, head: int) -> None:
        """A last hint to a host that was removed: it learns so when it asks."""
        self._cast_twice(ident, head)

    def _run(self) -> None:
        while True:
            due = self._wait()
            if due is None:
                return
            deployment, head = due
            self._send(deployment, head)

    def _wait(self) -> tuple[str, int] | None:
        """The next deployment that may be told, with its head; None at the end."""
        with self._changed:
            while True:
                now = time.monotonic()
                for deployment in sorted(self._pending):
                    if self._stopping or self._due(deployment) <= now:
                        return deployment, self._pending.pop(deployment)
                if self._stopping:
                    return None
                waits = [self._due(name) - now for name in self._pending]
                self._changed.wait(min(waits) if waits else None)

    def _due(self, deployment: str) -> float:
        return max(self._not_before.get(deployment, 0.0), self._patient_until[deployment])

    def _send(self, deployment: str, head: int) -> None:
        try:
            hosts = self._hosts(deployment)
        except Exception as exc:  # noqa: BLE001  # a lost hint costs a heartbeat
            LOG.warning("deployment=%s head=%d: no hints: %s", deployment, head, exc)
            hosts = []
        # When the second try fails too, it is the broker that is away, not the host.
        all(self._cast_twice(ident, head) for ident in hosts)
        pause = self._interval + SECONDS_PER_HOST * len(hosts)
        with self._changed:
            self._not_before[deployment] = time.monotonic() + pause

    def _cast_twice(self, ident: str, head: int) -> bool:
        """Cast; once more when the host's exchange was there, but went with its last queue.

        :return: whether it was sent.
        """
        for _again in range(2):
            try:
                self._cast(ident, head)
            except Exception as exc:  # noqa: BLE001  # a lost hint costs a heartbeat
                failure = exc
            else:
                return True
        LOG.warning("host=%s head=%d: hint not sent: %s", ident, head, failure)
        return False
