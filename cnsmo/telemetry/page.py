# SPDX-License-Identifier: Apache-2.0
"""Serves ``/metrics`` and ``/healthz`` over HTTP, on threads of its own; nothing waits for them.

Loaded only where somebody asks for it.
"""

from __future__ import annotations

import socket
import socketserver
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

from cnsmo.telemetry.health import Health

PATIENCE = 10.0
"""Seconds for which a client may say nothing."""
TEXT, JSON = "text/plain; charset=utf-8", "application/json"
Answer = Callable[[str, list[tuple[str, str]]], Any]


def server(
    place: tuple[str, int], registry: CollectorRegistry, health: Callable[[], Health]
) -> WSGIServer:
    """It listens already, and serves from serve_forever() to shutdown().

    health: asked at each look at ``/healthz``.

    :raises OSError: when the port cannot be had.
    """
    made = _server_class(place)(place, _Handler)
    made.set_app(_application(registry, health))
    return made


def _application(
    registry: CollectorRegistry, health: Callable[[], Health]
) -> Callable[[dict[str, Any], Answer], Iterable[bytes]]:
    figures = make_wsgi_app(registry)

    def application(environ: dict[str, Any], answer: Answer) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            found: Iterable[bytes] = figures(environ, answer)
            return found
        if path != "/healthz":
            return _say(answer, "404 Not Found", TEXT, "there are /metrics and /healthz\n")
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _say(answer, "405 Method Not Allowed", TEXT, "ask with GET\n")
        told = health()
        body = told.text() if environ["REQUEST_METHOD"] == "GET" else ""
        return _say(answer, told.status, JSON, body)

    return application


def _say(answer: Answer, status: str, kind: str, body: str) -> list[bytes]:
    answer(status, [("Content-Type", kind), ("Cache-Control", "no-store")])
    return [body.encode()]


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """Without asking the name service for this host's name, as HTTPServer would."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who hung up is no event."""


class _Handler(WSGIRequestHandler):
    timeout = PATIENCE

    def log_message(self, *arguments: Any) -> None:
        """Nobody wants a line for each scrape."""


def _server_class(place: tuple[str, int]) -> type[_Server]:
    found = socket.getaddrinfo(*place, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)

    class Server(_Server):
        address_family = found[0][0]

    return Server
