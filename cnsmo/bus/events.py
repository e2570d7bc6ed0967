# SPDX-License-Identifier: Apache-2.0
"""Events: what happened, for whoever wants to know.

Who watches hears them by fanout: nothing is kept for those who are not there. Besides, they go out
through oslo.messaging's Notifier to other programs, where the operator asks for that with
``[oslo_messaging_notifications] driver``: a broker keeps notifications until somebody takes them.
"""

from __future__ import annotations

import queue
import socket
from collections.abc import Iterator
from typing import Any

import oslo_messaging
from oslo_config import cfg
from oslo_log import log

from cnsmo.bus import serving, transport
from cnsmo.model.messages import EventMessage

LOG = log.getLogger(__name__)
PREFIX = "cnsmo."
VERSION = "1.0"
REACH_SECONDS = 10.0


class Announcer:
    """Sends events. One that cannot be sent is logged and lost: rows hold the truth."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        target = oslo_messaging.Target(
            topic=transport.EVENTS_TOPIC,
            exchange=transport.EVENTS_TOPIC,
            version=VERSION,
            fanout=True,
        )
        self._watchers = oslo_messaging.get_rpc_client(transport.calls(conf), target, retry=0)
        self._notifier = oslo_messaging.Notifier(
            transport.notifications(conf),
            publisher_id=f"core.{socket.gethostname()}",
            topics=[transport.EVENTS_TOPIC],
            retry=0,
        )

    def send(self, event: EventMessage) -> None:
        """Send one event."""
        payload = event.model_dump(mode="json")
        try:
            self._watchers.cast({}, "event", event=payload)
            self._notifier.info({}, PREFIX + event.type, payload)
        except Exception as exc:  # noqa: BLE001  # whatever the broker's library raises: rows hold the truth
            LOG.warning("event %s of %s not sent: %s", event.type, event.deployment, exc)


class Watch:
    """Receives all events from now on, until closed; use as a context manager."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf
        self._arrived: queue.Queue[EventMessage] = queue.Queue()

    def __enter__(self) -> Watch:
        """Begin to listen.

        :raises Unavailable: when the broker is not reachable.
        """
        transport.reach(self._conf, REACH_SECONDS)
        bus, events = transport.listening(self._conf), transport.EVENTS_TOPIC
        self._listener = serving.server(bus, events, events, "watch", _Sink(self._arrived))
        self._listener.start(override_pool_size=1)
        return self

    def __exit__(self, *_exc: object) -> None:
        self._listener.stop()
        self._listener.wait()

    def next(self, timeout: float | None = None) -> EventMessage | None:
        """The next event; None when none came within timeout seconds."""
        try:
            return self._arrived.get(timeout=timeout)
        except queue.Empty:
            return None

    def __iter__(self) -> Iterator[EventMessage]:
        while True:
            event = self.next()
            if event is not None:
                yield event


class _Sink:
    """What watchers are told."""

    target = oslo_messaging.Target(version=VERSION)

    def __init__(self, arrived: queue.Queue[EventMessage]) -> None:
        self._arrived = arrived

    @oslo_messaging.expose
    def event(self, ctxt: dict[str, Any], event: dict[str, Any]) -> None:
        """Called by oslo.messaging for each event; one thread, so their order is kept."""
        self._arrived.put(EventMessage.model_validate(event))

    @oslo_messaging.expose
    def roll_call(self, ctxt: dict[str, Any], topic: str) -> None:
        """Cores are asked who is there; who watches is none."""


class Unwatched:
    """What a core itself makes of events: nothing.

    It listens so that their exchange is always there: the broker deletes it with its last listener,
    and sending an event would then be an error.
    """

    target = oslo_messaging.Target(version=VERSION)

    @oslo_messaging.expose
    def event(self, ctxt: dict[str, Any], event: dict[str, Any]) -> None:
        """Called by oslo.messaging for each event."""
