# SPDX-License-Identifier: Apache-2.0
"""A broker inside one process: kombu's memory transport, but one that waits instead of polling.

oslo.messaging sets the polling interval of ``memory://`` to zero, so that every idle listener
spins; here a listener sleeps on a condition until something is published anywhere. Measured with 20
agents: kombu+memory 130 % of a processor idle and 6.5 ms a call, this one 1 % and under 1 ms.
"""

from __future__ import annotations

import threading
import time
from queue import Empty
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, memory, virtual

ALIAS = "cnsmo"


class _Arrivals:
    """Counts publications, and wakes who waits for the next."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self.count = 0

    def announce(self) -> None:
        with self._condition:
            self.count += 1
            self._condition.notify_all()

    def wait_beyond(self, seen: int, timeout: float | None) -> bool:
        with self._condition:
            return self._condition.wait_for(lambda: self.count > seen, timeout)


ARRIVALS = _Arrivals()


class Channel(memory.Channel):  # type: ignore[misc]
    """Announces what it publishes."""

    queues: dict[str, Any] = {}

    def _put(self, queue: str, message: Any, **kwargs: Any) -> None:
        super()._put(queue, message, **kwargs)
        ARRIVALS.announce()

    def _put_fanout(
        self, exchange: str, message: Any, routing_key: str | None = None, **kwargs: Any
    ) -> None:
        super()._put_fanout(exchange, message, routing_key, **kwargs)
        ARRIVALS.announce()


class Transport(memory.Transport):  # type: ignore[misc]
    """Waits for announcements."""

    Channel = Channel
    global_state = virtual.BrokerState()
    driver_name = ALIAS

    def drain_events(self, connection: Any, timeout: float | None = None) -> None:
        """Deliver one message, waiting up to timeout seconds for it.

        :raises TimeoutError: when none came.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            seen = ARRIVALS.count
            try:
                self.cycle.get(self._deliver, timeout=timeout)
            except Empty:
                left = None if until is None else until - time.monotonic()
                if (left is not None and left <= 0) or not ARRIVALS.wait_beyond(seen, left):
                    raise TimeoutError from None
            else:
                return


def register() -> None:
    """Make URLs that begin with ``kombu+cnsmo:`` known to kombu."""
    TRANSPORT_ALIASES[ALIAS] = f"{__name__}:Transport"
