# SPDX-License-Identifier: Apache-2.0
"""One check of one server, which never blocks. Standard library only."""

from __future__ import annotations

import errno
import os
import re
import selectors
import socket
import struct
from typing import NamedTuple

from cnsmo.services.loadbalancer.drivers.nfl_wanted import Inspection, Target

OURS = {
    errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EACCES,
    errno.EPERM,
}  # fmt: skip
"""What is this host's fault and says nothing about the server."""
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: the connection is reset, and leaves nothing behind on either side."""
ANSWER_BYTES = 4096
_STATUS = re.compile(rb"HTTP/\d(?:\.\d)? (\d{3})(?: |\r?\n)")


class Result(NamedTuple):
    """``well``: None where nothing could be found out. ``why``: for operators."""

    well: bool | None
    why: str


class Probe:
    """Begins when it is made. ``deadline``: of the monotonic clock."""

    def __init__(self, target: Target, check: Inspection, now: float) -> None:
        self.target = target
        self.deadline = now + check.timeout
        self.events = selectors.EVENT_WRITE
        self.socket: socket.socket | None = None
        self._check = check
        self._request = request(target, check) if check.kind == "http" else b""
        self._answer = b""

    def begin(self) -> Result | None:
        """Call the server; a result where that is known at once."""
        family = socket.AF_INET6 if self.target.version == 6 else socket.AF_INET
        try:
            self.socket = socket.socket(family, socket.SOCK_STREAM)
            self.socket.setblocking(False)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            code = self.socket.connect_ex((self.target.address, self.target.port))
        except OSError as exc:
            return _failed(exc.errno)
        return None if code in (0, errno.EINPROGRESS) else _failed(code)

    def advance(self) -> Result | None:
        """Go on, now that the socket is ready."""
        if self.socket is None:
            return None
        try:
            if self.events == selectors.EVENT_READ:
                return self._read(self.socket)
            code = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                return _failed(code)
            if self._check.kind != "http":
                return Result(True, "connected")
            self._request = self._request[self.socket.send(self._request) :]
            if not self._request:
                self.events = selectors.EVENT_READ
        except BlockingIOError:
            return None
        except OSError as exc:
            return _failed(exc.errno)
        return None

    def expire(self) -> Result:
        """Its time is over."""
        return Result(False, f"no answer within {self._check.timeout:g} s")

    def close(self) -> None:
        """Let go."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def _read(self, sock: socket.socket) -> Result | None:
        data = sock.recv(ANSWER_BYTES)
        self._answer += data
        if b"\n" in self._answer:
            return judged(self._answer, self._check.statuses)
        if not data:
            return Result(False, "closed without an answer")
        return Result(False, "no HTTP") if len(self._answer) >= ANSWER_BYTES else None


def request(target: Target, check: Inspection) -> bytes:
    """What is asked."""
    place = f"[{target.address}]" if target.version == 6 else target.address
    host = check.host or f"{place}:{target.port}"
    lines = (
        f"{check.method} {check.path} HTTP/1.1",
        f"Host: {host}",
        "User-Agent: cnsmo",
        "Accept: */*",
        "Connection: close",
        "",
        "",
    )
    return "\r\n".join(lines).encode("ascii")


def judged(answer: bytes, statuses: tuple[tuple[int, int], ...]) -> Result:
    """What an answer means, by its first line."""
    found = _STATUS.match(answer)
    if not found:
        return Result(False, "no HTTP")
    status = int(found[1])
    return Result(any(low <= status <= high for low, high in statuses), f"HTTP {status}")


def _failed(code: int | None) -> Result:
    words = os.strerror(code or 0).lower()
    return Result(None, words) if code in OURS else Result(False, words)
