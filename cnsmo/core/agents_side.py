# SPDX-License-Identifier: Apache-2.0
"""The agents' side of a core: the broker is prepared, and agents are answered there.

While the broker's management API is away, a core does all the rest: operators are answered, and
hosts that would join are told to come again. It goes on trying.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import oslo_messaging
from oslo_log import log

from cnsmo.bus import transport
from cnsmo.bus.broker import Broker
from cnsmo.model.errors import Unavailable

LOG = log.getLogger(__name__)
PAUSE = 2.0
"""Seconds between two tries."""


class AgentsSide:
    """Works from start() to stop()."""

    def __init__(self, broker: Broker, serve: Callable[[], oslo_messaging.RPCServer]) -> None:
        """serve: begins to answer agents; blocks or raises while it cannot reach the broker."""
        self._broker = broker
        self._serve = serve
        self._server: oslo_messaging.RPCServer | None = None
        self.prepared = False
        """Whether agents can be admitted."""
        self._ended = threading.Event()
        self._lock = threading.Lock()

    def start(self) -> bool:
        """Begin; when the broker is not ready, go on trying from a thread.

        :return: whether agents are answered by now.
        :raises CnsmoError: when the broker refuses, so that trying again does not help.
        """
        try:
            self._broker.prepare()
        except Unavailable as exc:
            LOG.warning("agents are not admitted yet: %s. Next try in %.0f s", exc, PAUSE)
            threading.Thread(target=self._insist, name="agents-side", daemon=True).start()
            return False
        self.prepared = True
        self._keep(self._serve())
        return True

    @property
    def answering(self) -> bool:
        """Whether agents are answered."""
        return self._server is not None

    def stop(self) -> None:
        """Finish what was begun, and end."""
        with self._lock:
            self._ended.set()
            server, self._server = self._server, None
        if server is not None:
            transport.end(server)

    def _insist(self) -> None:
        # Answering needs no management API, if another core has prepared the broker once.
        while not (self._server is not None and self.prepared):
            for work in (self._prepare, self._answer):
                try:
                    work()
                except Exception as exc:  # noqa: BLE001  # whatever the broker's library raises
                    LOG.warning("agents: %s. Next try in %.0f s", exc, PAUSE)
            if self._ended.wait(PAUSE):
                return

    def _prepare(self) -> None:
        if not self.prepared:
            self._broker.prepare()
            self.prepared = True
            LOG.info("the broker is prepared: agents are admitted")

    def _answer(self) -> None:
        if self._server is None:
            self._keep(self._serve())
            LOG.info("core answers on %s", transport.AGENTS_TOPIC)

    def _keep(self, server: oslo_messaging.RPCServer) -> None:
        with self._lock:
            if not self._ended.is_set():
                self._server = server
                return
        transport.end(server)
