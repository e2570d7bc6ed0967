# SPDX-License-Identifier: Apache-2.0
"""Runs inside of a VM: traffic that does not cease until it is told to, and is accounted for.

``traffic.py serve LANE...`` answers at lanes and counts what arrives at each. ``traffic.py call
PACE LANE...`` sends something along each lane again and again, PACE seconds apart. Both say
``ready`` once they are, go on until stdin ends, and then print what they counted, as JSON.
"""

import collections
import contextlib
import dataclasses
import json
import select
import selectors
import socket
import struct
import sys
import time
from collections.abc import Generator

PATIENCE_SECONDS = 5.0
"""After which an answer is taken for lost; a machine may be busy."""
HELD = 64
"""Knocks that are left open, until so many later it is seen what became of them."""
BLOCK = 16384
ESTABLISHED, TOTAL_RETRANS = 1, 100
"""Of struct tcp_info, <linux/tcp.h>: a value of its first byte, and the place of a u32."""


@dataclasses.dataclass(frozen=True)
class Lane:
    """Where to, and how. ``kind``: tcp or udp; ``source``: from where, if that matters.

    ``mode``: ask: a new flow, until its answer is there; knock: a new flow, and no waiting;
    insist: datagrams of one flow, and no waiting; stream: all along one connection.
    """

    mode: str
    kind: str
    address: str
    port: int
    source: str = ""

    def __str__(self) -> str:
        return ",".join(filter(None, map(str, dataclasses.astuple(self))))

    @classmethod
    def read(cls, text: str) -> "Lane":
        """What str() made."""
        mode, kind, address, port, *source = text.split(",")
        return cls(mode, kind, address, int(port), *source)

    def answering(self) -> socket.socket:
        """A socket where what comes along arrives."""
        sock = self._socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((self.address, self.port))
        if self.kind == "tcp":
            sock.listen(64)
        return sock

    def calling(self) -> socket.socket:
        """A socket to send from."""
        sock = self._socket()
        if self.source:
            sock.bind((self.source, 0))
        return sock

    def _socket(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        tcp = self.kind == "tcp"
        return socket.socket(family, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)


# --- who answers --------------------------------------------------------------------------


def serve(lanes: list[Lane]) -> dict[str, int]:
    """Send everything back; how many connections and datagrams arrived, by lane."""
    selector = selectors.DefaultSelector()
    arrived = {str(lane): 0 for lane in lanes}
    for lane in lanes:
        selector.register(lane.answering(), selectors.EVENT_READ, lane)
    selector.register(sys.stdin, selectors.EVENT_READ, None)
    print("ready", flush=True)
    while True:
        ready = [key for key, _events in selector.select()]
        for key in ready:
            if key.fileobj is not sys.stdin:
                _answer(key, selector, arrived)
        if [key.fileobj for key in ready] == [sys.stdin]:
            return arrived


def _answer(
    key: selectors.SelectorKey, selector: selectors.BaseSelector, arrived: dict[str, int]
) -> None:
    assert isinstance(key.fileobj, socket.socket)
    if key.data is None:
        _echo(key.fileobj, selector)
        return
    arrived[str(key.data)] += 1
    if key.data.kind == "tcp":
        selector.register(key.fileobj.accept()[0], selectors.EVENT_READ, None)
    else:
        data, sender = key.fileobj.recvfrom(2048)
        with contextlib.suppress(OSError):
            key.fileobj.sendto(data, sender)


def _echo(connection: socket.socket, selector: selectors.BaseSelector) -> None:
    try:
        data = connection.recv(BLOCK)
        connection.sendall(data)
    except OSError:
        data = b""
    if not data:
        selector.unregister(connection)
        connection.close()


# --- who calls ----------------------------------------------------------------------------


@dataclasses.dataclass
class Calls:
    """When something was sent along a lane, and of those times, which sendings were answered.

    In seconds of the monotonic clock. ``error``: what ended a stream.
    """

    sent: list[float] = dataclasses.field(default_factory=list)
    answered: list[float] = dataclasses.field(default_factory=list)
    error: str = ""

    @property
    def lost(self) -> list[float]:
        """When what was not answered had been sent."""
        return sorted(set(self.sent) - set(self.answered))


def call(pace: float, lanes: list[Lane]) -> dict[str, Calls]:
    """Go on along all lanes."""
    calls = {str(lane): Calls() for lane in lanes}
    going = [MODES[lane.mode](lane, calls[str(lane)]) for lane in lanes]
    for lane in going:
        next(lane)
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], pace)[0]:
        for lane in going:
            next(lane)
    for lane in going:
        lane.close()
    return calls


def _asking(lane: Lane, calls: Calls) -> Generator[None, None, None]:
    while True:
        calls.sent.append(now := time.monotonic())
        with contextlib.suppress(OSError), lane.calling() as sock:
            sock.settimeout(PATIENCE_SECONDS)
            sock.connect((lane.address, lane.port))
            sock.send(b"x")
            if sock.recv(10) == b"x" and not _sent_again(lane, sock):
                calls.answered.append(now)
        yield


def _sent_again(lane: Lane, sock: socket.socket) -> bool:
    """Whether something was lost that TCP made good."""
    if lane.kind != "tcp":
        return False
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TOTAL_RETRANS + 4)
    return any(info[TOTAL_RETRANS:])


def _knocking(lane: Lane, calls: Calls) -> Generator[None, None, None]:
    held: collections.deque[tuple[float, socket.socket]] = collections.deque()
    try:
        while True:
            calls.sent.append(now := time.monotonic())
            sock = lane.calling()
            sock.setblocking(False)
            held.append((now, sock))
            with contextlib.suppress(OSError):
                sock.connect_ex((lane.address, lane.port))
                if lane.kind == "udp":
                    sock.send(b"x")
            if len(held) > HELD:
                _look(lane, calls, *held.popleft())
            yield
    finally:
        for each in held:
            _look(lane, calls, *each)


def _look(lane: Lane, calls: Calls, sent: float, sock: socket.socket) -> None:
    """See what became of a knock, and close it."""
    with contextlib.suppress(OSError), sock:
        if lane.kind == "tcp":
            state = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
            answered = state == ESTABLISHED
        else:
            answered = sock.recv(10) == b"x"
        if answered:
            calls.answered.append(sent)


def _insisting(lane: Lane, calls: Calls) -> Generator[None, None, None]:
    with lane.calling() as sock:
        sock.setblocking(False)
        while True:
            calls.sent.append(now := time.monotonic())
            with contextlib.suppress(OSError):
                sock.sendto(b"x", (lane.address, lane.port))
            with contextlib.suppress(OSError):
                sock.recv(10)
                calls.answered.append(now)
            yield


def _streaming(lane: Lane, calls: Calls) -> Generator[None, None, None]:
    """Blocks with a number each; one is under way in each direction."""
    try:
        with lane.calling() as sock:
            sock.settimeout(PATIENCE_SECONDS)
            sock.connect((lane.address, lane.port))
            number = 0
            while True:
                number += 1
                block = struct.pack("!Q", number) * (BLOCK // 8)
                calls.sent.append(now := time.monotonic())
                sock.sendall(block)
                if _received(sock, BLOCK) != block:
                    raise OSError(f"block {number} did not come back as it was sent")
                calls.answered.append(now)
                yield
    except OSError as exc:
        calls.error = str(exc)
        while True:
            yield


def _received(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise OSError("the connection was closed")
        data += more
    return data


MODES = {"ask": _asking, "knock": _knocking, "insist": _insisting, "stream": _streaming}


if __name__ == "__main__":
    word, *rest = sys.argv[1:]
    if word == "serve":
        print(json.dumps(serve([Lane.read(text) for text in rest])))
    else:
        done = call(float(rest[0]), [Lane.read(text) for text in rest[1:]])
        print(json.dumps({lane: dataclasses.asdict(calls) for lane, calls in done.items()}))
