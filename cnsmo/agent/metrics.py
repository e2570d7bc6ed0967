# SPDX-License-Identifier: Apache-2.0
"""Serves an agent's figures over HTTP, on threads of their own; nothing else waits for them."""

from __future__ import annotations

import threading
from collections.abc import Callable

from oslo_log import log

from cnsmo.agent.identity import HostIdentity
from cnsmo.agent.standing import Stand
from cnsmo.agent.wakeup import Backoff

LOG = log.getLogger(__name__)
FIRST_PAUSE = 1.0
END_SECONDS = 5.0


class Metrics:
    """A place at which Prometheus can ask. A port that is taken is tried again, less and less
    often."""

    def __init__(
        self,
        place: tuple[str, int],
        retry_max: float,
        identity: HostIdentity,
        read: Callable[[], list[Stand]],
    ) -> None:
        """place: address and TCP port. retry_max: longest pause between two tries, in seconds."""
        self._place = place
        self._backoff = Backoff(FIRST_PAUSE, retry_max)
        self._identity = identity
        self._read = read
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    def start(self) -> None:
        """Begin to serve, as soon as the port is free."""
        self._thread.start()

    def stop(self) -> None:
        """End, and let the port go."""
        self._ended.set()
        self._thread.join(END_SECONDS)

    def _run(self) -> None:
        from prometheus_client import start_http_server

        from cnsmo.agent.exposition import registry

        address, port = self._place
        while not self._ended.is_set():
            try:
                served = registry(self._identity, self._read)
                server, _thread = start_http_server(port, address, served)
            except OSError as exc:
                pause = self._backoff.pause()
                LOG.warning(
                    "figures cannot be served at %s port %d ([metrics] listen_address, "
                    "listen_port): %s. Next try in %.1f s",
                    address, port, exc.strerror or exc, pause,
                )  # fmt: skip
                self._ended.wait(pause)
                continue
            LOG.info("figures are served at %s port %d, /metrics", address, port)
            self._ended.wait()
            server.shutdown()
            server.server_close()
