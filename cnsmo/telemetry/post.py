# SPDX-License-Identifier: Apache-2.0
"""A place at which monitoring can ask how a process is. The process works on without it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from oslo_log import log

from cnsmo.telemetry.health import Health

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

LOG = log.getLogger(__name__)
END_SECONDS = 5.0


class Post:
    """Serves from start() to stop(). A port that is taken is tried again."""

    def __init__(
        self,
        place: tuple[str, int],
        group: str,
        pause: Callable[[], float],
        registry: Callable[[], CollectorRegistry],
        health: Callable[[], Health],
    ) -> None:
        """place: address and TCP port, of which ``group`` of the options tells. pause: seconds
        until the next try. registry: made when it is needed; health: asked at each look."""
        self._place = place
        self._group = group
        self._pause = pause
        self._registry = registry
        self._health = health
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
        from cnsmo.telemetry.page import server

        address, port = self._place
        registry = self._registry()
        while not self._ended.is_set():
            try:
                serving = server(self._place, registry, self._health)
            except OSError as exc:
                pause = self._pause()
                LOG.warning(
                    "figures cannot be served at %s port %d ([%s] listen_address, listen_port): "
                    "%s. Next try in %.1f s",
                    address, port, self._group, exc.strerror or exc, pause,
                )  # fmt: skip
                self._ended.wait(pause)
                continue
            LOG.info("figures are served at %s port %d, /metrics and /healthz", address, port)
            threading.Thread(target=serving.serve_forever, name="metrics-page", daemon=True).start()
            self._ended.wait()
            serving.shutdown()
            serving.server_close()
