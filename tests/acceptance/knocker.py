# SPDX-License-Identifier: Apache-2.0
"""Runs in namespaces of a lab: listens at TCP ports, or tries ports of others all the time.

``serve PORT...`` says ``ready``, and accepts whoever gets through. ``watch ADDRESS:PORT...`` tries
each every PERIOD seconds over a new connection, and prints a line of JSON whenever an answer
differs from the one before: when it was asked (monotonic clock), where, and what came of it: open,
refused or silent. From time to time it says until when all is told.
"""

import collections
import errno
import json
import selectors
import socket
import struct
import sys
import time

PERIOD = 0.05
TELL_EVERY = 5
"""Periods between two lines that say until when all is told."""
PATIENCE = 0.5
"""Seconds without an answer that count as silence; shorter than the kernel's wait (1 s) before it
asks again, so that no answer belongs to another time than that of the question."""
HANG_UP = struct.pack("ii", 1, 0)
"""SO_LINGER: reset instead of a farewell, so that no kernel has to remember the connection."""


def serve(ports: list[int]) -> None:
    """Accept, and hang up."""
    selector = selectors.DefaultSelector()
    for port in ports:
        selector.register(
            socket.create_server(("0.0.0.0", port), backlog=1024), selectors.EVENT_READ
        )
    print("ready", flush=True)
    while True:
        for key, _events in selector.select():
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.accept()[0].close()


class Door:
    """One port of one host. Answers count in the order in which they were asked for."""

    def __init__(self, address: str, port: int) -> None:
        self._name = f"{address}:{port}"
        self._address = (address, port)
        self._asked: collections.deque[tuple[float, socket.socket]] = collections.deque()
        self._answers: dict[socket.socket, str] = {}
        self._last = ""

    def ask(self, now: float, selector: selectors.BaseSelector) -> None:
        """Ask once more."""
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, HANG_UP)
        self._asked.append((now, sock))
        code = sock.connect_ex(self._address)
        if code in (0, errno.EINPROGRESS):
            selector.register(sock, selectors.EVENT_WRITE, self)
        else:
            self._answers[sock] = "silent"

    @property
    def known_until(self) -> float:
        """All that was asked before is answered, and told."""
        return self._asked[0][0] if self._asked else time.monotonic()

    def answered(self, sock: socket.socket, selector: selectors.BaseSelector) -> None:
        """Something came back."""
        selector.unregister(sock)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        known = {0: "open", errno.ECONNREFUSED: "refused"}
        self._answers[sock] = known.get(code, "silent")

    def tell(self, now: float, selector: selectors.BaseSelector) -> None:
        """Print what is new, as far as all that was asked before is known."""
        while self._asked:
            at, sock = self._asked[0]
            answer = self._answers.pop(sock, "")
            if not answer and now - at < PATIENCE:
                return
            if not answer:
                selector.unregister(sock)
                answer = "silent"
            self._asked.popleft()
            sock.close()
            if answer != self._last:
                self._last = answer
                print(json.dumps({"at": at, "door": self._name, "answer": answer}), flush=True)


def watch(doors: list[Door]) -> None:
    """Ask, for ever."""
    selector = selectors.DefaultSelector()
    due, rounds = time.monotonic(), 0
    while True:
        now = time.monotonic()
        if now >= due:
            due, rounds = now + PERIOD, rounds + 1
            if rounds % TELL_EVERY == 0:
                until = min(door.known_until for door in doors)
                print(json.dumps({"until": until}), flush=True)
            for door in doors:
                door.ask(now, selector)
        for key, _events in selector.select(max(0.0, due - time.monotonic())):
            assert isinstance(key.fileobj, socket.socket)
            key.data.answered(key.fileobj, selector)
        for door in doors:
            door.tell(time.monotonic(), selector)


if __name__ == "__main__":
    word, *rest = sys.argv[1:]
    if word == "serve":
        serve([int(port) for port in rest])
    else:
        targets = (target.rpartition(":") for target in rest)
        watch([Door(address, int(port)) for address, _colon, port in targets])
