# SPDX-License-Identifier: Apache-2.0
"""The HTTPS server that hosts join at: TLS 1.2 or later, by a certificate of our own authority.

A client cannot hold it up: the handshake is done by the thread that serves the connection, never
by the one that accepts; a connection has a deadline, however busy it seems; where others wait for a
thread, whoever does not say what he wants is sent away after a moment; and one source has so many
connections at most.
"""

from __future__ import annotations

import datetime
import os
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from cheroot import errors, wsgi
from cheroot.server import HTTPConnection
from cheroot.ssl import Adapter
from cheroot.ssl.builtin import BuiltinSSLAdapter
from oslo_config import cfg
from oslo_log import log

from cnsmo.core.join_application import Join, application
from cnsmo.core.join_limits import Count, Rate, source_of
from cnsmo.model.errors import InvalidRequest
from cnsmo.trust import authority
from cnsmo.trust.authority import Authority

LOG = log.getLogger(__name__)
T = TypeVar("T")
MAX_HEADERS = 16384
"""Bytes."""
MOMENT = 1.0
"""Seconds that a client has to say what it wants while others wait."""
LOOK = 0.25
"""Seconds after which a thread that waits for its client looks whether others wait for it."""


class JoinServer:
    """Serves from start() to stop()."""

    def __init__(self, conf: cfg.ConfigOpts, join: Join) -> None:
        """:raises NotFound: when there is no certificate authority yet."""
        group = conf.join
        self._identity = _Identity(Path(group.ca_directory))
        app = application(
            join, self._identity.authorities, Rate(group.rate, group.burst), group.max_body
        )
        self._server = _Server(
            (group.listen, group.port),
            app,
            numthreads=group.threads,
            max=group.threads,
            server_name="cnsmo",
            timeout=group.deadline,
            accepted_queue_size=group.threads,
            accepted_queue_timeout=0,
            request_queue_size=128,
        )
        self._server.max_request_header_size = MAX_HEADERS
        self._server.max_request_body_size = group.max_body
        self._server.keep_alive_conn_limit = 0
        count = Count(group.connections_per_source)
        self._server.ssl_adapter = _Tls(self._identity, count, group.deadline, self._pressed)
        self._thread = threading.Thread(target=self._server.serve, name="join", daemon=True)

    def _pressed(self) -> bool:
        """Whether connections wait for a thread."""
        return bool(self._server.requests.qsize)

    @property
    def port(self) -> int:
        """The TCP port, once it listens."""
        return int(self._server.bind_addr[1])

    def start(self) -> None:
        """Begin to answer.

        :raises InvalidRequest: when the port cannot be had.
        """
        try:
            self._server.prepare()
        except OSError as exc:
            raise InvalidRequest(f"[join] listen, port: {exc}") from exc
        self._thread.start()

    def stop(self) -> None:
        """Finish what was begun, and end."""
        self._server.stop()
        self._thread.join()


class _Server(wsgi.Server):
    """Closes what it has no room for; cheroot would answer it, on one thread for all."""

    def process_conn(self, conn: HTTPConnection) -> None:
        """Hand a connection to a thread that is free, or will be soon."""
        try:
            self.requests.put(conn)
        except queue.Full:
            conn.close()

    def error_log(self, msg: str = "", level: int = 20, traceback: bool = False) -> None:
        """What strangers send is worth a line for debugging, and no more."""
        LOG.debug("join: %s", msg, exc_info=traceback)


class _Identity:
    """By what this core proves to be one: renewed by itself, also when the authority rotates."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._load(self._stamp())

    def context(self) -> ssl.SSLContext:
        """What the next connection shall be served with."""
        with self._lock:
            try:
                stamp = self._stamp()
                if stamp != self._loaded or _now() >= self._renew_at:
                    self._load(stamp)
            except Exception as exc:  # noqa: BLE001  # what we have is good still
                LOG.error("the certificate of this core cannot be renewed: %s", exc)
            return self._context

    def authorities(self) -> str:
        """All authorities that are believed, as PEM."""
        return self._authority().bundle(_now())

    def _load(self, stamp: tuple[int, int]) -> None:
        chain = self._authority().core_chain(_now())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        context.sslsocket_class = _Connection
        with open(os.memfd_create("chain"), "w") as file:  # ssl(3) reads files; this is on no disk
            file.write(chain.key + chain.certificates)
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
        self._context, self._renew_at, self._loaded = context, chain.renew_at, stamp

    def _authority(self) -> Authority:
        return authority.load(self._directory)

    def _stamp(self) -> tuple[int, int]:
        """Tells whether the authority's file is another one."""
        try:
            found = os.stat(self._directory / authority.FILE)
        except FileNotFoundError:
            return (0, 0)
        return (found.st_ino, found.st_mtime_ns)


class _Connection(ssl.SSLSocket):
    """A connection with a deadline, whose handshake is done by who first reads from it."""

    _deadline: float = 0.0
    _when_closed: Callable[[], None] | None = None
    _pressed: Callable[[], bool]
    _taken = 0.0

    def limit(
        self, seconds: float, closed: Callable[[], None], pressed: Callable[[], bool]
    ) -> None:
        """Begin the time that the client has in all. closed: called once, at the end; pressed:
        whether others wait for the thread that serves it."""
        self._deadline = time.monotonic() + seconds
        self._when_closed = closed
        self._pressed = pressed

    def recv_into(self, *arguments: Any, **more: Any) -> int:
        """Read; the first time, shake hands before."""
        if not self._taken:
            self._taken = time.monotonic()
            try:
                self._patiently(self.do_handshake)
            except OSError as exc:
                raise errors.FatalSSLAlert(*exc.args) from exc
        return self._patiently(lambda: super(_Connection, self).recv_into(*arguments, **more))

    def send(self, *arguments: Any, **more: Any) -> int:
        """Write."""
        self.settimeout(self._left())
        return super().send(*arguments, **more)

    def close(self) -> None:
        """Close, and make room for another one."""
        super().close()
        closed, self._when_closed = self._when_closed, None
        if closed is not None:
            closed()

    def _patiently(self, listen: Callable[[], T]) -> T:
        """Wait for the client until its time is over, or others wait and it had its moment."""
        while True:
            self.settimeout(min(self._left(), LOOK))
            try:
                return listen()
            except TimeoutError:
                if self._pressed() and time.monotonic() - self._taken > MOMENT:
                    raise errors.FatalSSLAlert("others wait") from None

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise errors.FatalSSLAlert("the deadline is over")
        return left


class _Tls(BuiltinSSLAdapter):  # type: ignore[misc, unused-ignore]
    """Takes connections without waiting for their clients."""

    def __init__(
        self, identity: _Identity, count: Count, deadline: float, pressed: Callable[[], bool]
    ) -> None:
        Adapter.__init__(self, None, None)
        self._pressed = pressed
        self._identity = identity
        self._count = count
        self._deadline = deadline

    def wrap(self, sock: socket.socket) -> tuple[socket.socket, dict[str, str]]:
        """A connection, before its handshake."""
        try:
            source = source_of(sock.getpeername()[0])
        except OSError as exc:
            sock.close()
            raise errors.FatalSSLAlert(*exc.args) from exc
        if not self._count.enter(source):
            sock.close()
            raise errors.FatalSSLAlert(f"too many connections from {source}")
        try:
            wrapped = self._identity.context().wrap_socket(
                sock, server_side=True, do_handshake_on_connect=False
            )
        except OSError as exc:
            self._count.leave(source)
            sock.close()
            raise errors.FatalSSLAlert(*exc.args) from exc
        made = cast("_Connection", wrapped)
        made.limit(self._deadline, lambda: self._count.leave(source), self._pressed)
        return made, {"wsgi.url_scheme": "https", "HTTPS": "on"}


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
