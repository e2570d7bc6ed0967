# SPDX-License-Identifier: Apache-2.0
"""Events: what happened, for whoever wants to know (oslo.messaging's Notifier)."""

from __future__ import annotations

import queue
import secrets
import socket
from collections.abc import Iterator
from typing import Any

import oslo_messaging
from oslo_config import cfg
from oslo_log import log

from cnsmo.bus import transport
from cnsmo.model.messages import EventMessage

LOG = log.getLogger(__name__)
PREFIX = "cnsmo."


class Announcer:
    """Sends events. One that cannot be sent is logged and lost: rows hold the truth."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._notifier = oslo_messaging.Notifier(
            transport.events(conf),
            publisher_id=f"core.{socket.gethostname()}",
            driver="messagingv2",
            topics=[transport.EVENTS_TOPIC],
            retry=0,
        )

    def send(self, event: EventMessage) -> None:
        """Send one event."""
        try:
            self._notifier.info({}, PREFIX + event.type, event.model_dump(mode="json"))
        except Exception:  # noqa: BLE001  # whatever the broker's library raises: rows hold the truth
            LOG.warning("event %s of %s could not be sent", event.type, event.deployment)


class Watch:
    """Receives all events from now on, until closed; use as a context manager."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._arrived: queue.Queue[EventMessage] = queue.Queue()
        self._listener = oslo_messaging.get_notification_listener(
            transport.events(conf),
            [oslo_messaging.Target(topic=transport.EVENTS_TOPIC)],
            [_Sink(self._arrived)],
            executor="threading",
            pool=f"watch-{secrets.token_hex(4)}",
        )

    def __enter__(self) -> Watch:
        self._listener.start()
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
    def __init__(self, arrived: queue.Queue[EventMessage]) -> None:
        self._arrived = arrived

    def info(
        self,
        ctxt: dict[str, Any],
        publisher_id: str,
        event_type: str,
        payload: dict[str, Any],
        metadata: dict[str, Any],
    ) -> None:
        """Called by oslo.messaging for each event."""
        if event_type.startswith(PREFIX):
            self._arrived.put(EventMessage.model_validate(payload))
