# SPDX-License-Identifier: Apache-2.0
"""A broker inside one process: kombu's memory transport, but one that waits instead of polling.

oslo.messaging sets the polling interval of ``memory://`` to zero, so that every idle listener
spins; here a listener sleeps on a condition until something is published anywhere. Measured with 20
agents: kombu+memory 130 % of a processor idle and 6.5 ms a call, this one 1 % and under 1 ms.
"""

from __future__ import annotations

import functools
import threading
import time
import weakref
from collections.abc import Callable
from queue import Empty
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, memory, virtual

ALIAS = "cnsmo"


class _Arrivals:
    """Counts what arrived for one listener, and wakes it."""

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


class _Audience:
    """Which listeners consume which queue; those that are gone drop out by themselves."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: dict[str, weakref.WeakSet[_Arrivals]] = {}

    def add(self, queue: str, listener: _Arrivals) -> None:
        with self._lock:
            self._listeners.setdefault(queue, weakref.WeakSet()).add(listener)

    def announce(self, queue: str) -> None:
        with self._lock:
            listeners = list(self._listeners.get(queue, ()))
        for listener in listeners:
            listener.announce()

    def drop(self, queue: str) -> None:
        with self._lock:
            self._listeners.pop(queue, None)


AUDIENCE = _Audience()


def _alone(name: str) -> Callable[..., Any]:
    """A method of kombu's channel, run by one thread at a time.

    Exchanges, bindings and queues are plain dictionaries that all channels of the process share;
    two threads that declare the same exchange would lose one another's bindings.
    """
    inherited = getattr(memory.Channel, name)

    @functools.wraps(inherited)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        with TABLES:
            return inherited(self, *args, **kwargs)

    return method


TABLES = threading.RLock()


class Channel(memory.Channel):  # type: ignore[misc]
    """Tells a queue's listeners that something was published to it."""

    queues: dict[str, Any] = {}
    exchange_declare = _alone("exchange_declare")
    exchange_delete = _alone("exchange_delete")
    queue_declare = _alone("queue_declare")
    queue_bind = _alone("queue_bind")
    queue_delete = _alone("queue_delete")
    queue_purge = _alone("queue_purge")
    basic_publish = _alone("basic_publish")

    def basic_consume(self, queue: str, *args: Any, **kwargs: Any) -> None:
        """Register a consumer."""
        AUDIENCE.add(queue, self.connection.arrivals)
        super().basic_consume(queue, *args, **kwargs)
        self.connection.arrivals.announce()

    def _put(self, queue: str, message: Any, **kwargs: Any) -> None:
        super()._put(queue, message, **kwargs)
        AUDIENCE.announce(queue)

    def _put_fanout(
        self, exchange: str, message: Any, routing_key: str | None = None, **kwargs: Any
    ) -> None:
        for queue in self._lookup(exchange, routing_key):
            self._put(queue, message)

    def _delete(self, queue: str, *args: Any, **kwargs: Any) -> None:
        super()._delete(queue, *args, **kwargs)
        AUDIENCE.drop(queue)


class Transport(memory.Transport):  # type: ignore[misc]
    """Waits for what is published to the queues that it consumes."""

    Channel = Channel
    global_state = virtual.BrokerState()
    driver_name = ALIAS

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        self.arrivals = _Arrivals()

    def drain_events(self, connection: Any, timeout: float | None = None) -> None:
        """Deliver one message, waiting up to timeout seconds for it.

        :raises TimeoutError: when none came.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            seen = self.arrivals.count
            try:
                self.cycle.get(self._deliver, timeout=timeout)
            except Empty:
                left = None if until is None else until - time.monotonic()
                if (left is not None and left <= 0) or not self.arrivals.wait_beyond(seen, left):
                    raise TimeoutError from None
            else:
                return


def register() -> None:
    """Make URLs that begin with ``kombu+cnsmo:`` known to kombu."""
    TRANSPORT_ALIASES[ALIAS] = f"{__name__}:Transport"
