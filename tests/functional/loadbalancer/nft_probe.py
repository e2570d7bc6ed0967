# SPDX-License-Identifier: Apache-2.0
"""Runs inside of a VM: a server that says its name, or clients that ask for it.

``serve NAME PORT...``: answers each line on TCP, and each datagram, with NAME; HTTP, too.
``set ADDRESS PORT STATUS``: makes such a server answer that status from then on.
``ask KIND ADDRESS PORT COUNT [SOURCE...]``: so many new flows from each source; prints as JSON, by
source, the names that answered and what went wrong, in their order.
``load ADDRESS PORT THREADS SOURCE...``: new connections without end, from each source in turn (one
has too few ports), until stdin is closed; prints as JSON how often each name answered, and what
went wrong.
``talk KIND ADDRESS PORT``: one flow; prints the answer to each line from stdin; to the line
``where``, its port and where it stands in the streams of both sides.
``forge SOURCE PORT TARGET PORT SEQUENCE EXPECTED``: sends a TCP packet.
"""

import collections
import contextlib
import errno
import itertools
import json
import selectors
import socket
import struct
import sys
import threading
import time

WAIT = 5.0


def serve(name: str, ports: list[int]) -> None:
    """Answer on all of them."""
    selector = selectors.DefaultSelector()
    answer, status = f"{name}\n".encode(), "200"
    for port in ports:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            sock = socket.socket(socket.AF_INET6, kind)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("::", port))
            if kind == socket.SOCK_STREAM:
                sock.listen(512)
            selector.register(sock, selectors.EVENT_READ, kind)
    print("ready", flush=True)
    while True:
        for key, _events in selector.select():
            sock = key.fileobj
            assert isinstance(sock, socket.socket)
            if key.data == socket.SOCK_STREAM:
                selector.register(sock.accept()[0], selectors.EVENT_READ, None)
                continue
            if key.data == socket.SOCK_DGRAM:
                sock.sendto(answer, sock.recvfrom(2000)[1])
                continue
            data = b""
            with contextlib.suppress(OSError):
                data = sock.recv(2000)
            if data.startswith(b"GET "):
                path = data.split()[1].decode()
                if path.startswith("/set/"):
                    status = path.removeprefix("/set/")
                head = f"HTTP/1.1 {status} So\r\nContent-Length: {len(answer)}\r\n"
                data = f"{head}Connection: close\r\n\r\n".encode() + answer
            elif data:
                data = answer
            with contextlib.suppress(OSError):
                sock.sendall(data)
            if not data or data.startswith(b"HTTP"):
                selector.unregister(sock)
                sock.close()


def flow(kind: str, address: str, port: int, source: str = "") -> socket.socket:
    """A new one."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    sock.settimeout(WAIT)
    if source:
        sock.bind((source, 0))
    sock.connect((address, port))
    return sock


def talk_once(sock: socket.socket) -> str:
    """Who answers."""
    sock.sendall(b"x\n")
    return sock.recv(100).decode().strip() or "closed"


def where(sock: socket.socket) -> str:
    """Our port, and the numbers that we send and expect next; see TCP_REPAIR in linux/tcp.h."""
    repair, queue, sequence, receive, send = 19, 20, 21, 1, 2
    numbers = []
    sock.setsockopt(socket.IPPROTO_TCP, repair, 1)
    for which in (send, receive):
        sock.setsockopt(socket.IPPROTO_TCP, queue, which)
        numbers.append(sock.getsockopt(socket.IPPROTO_TCP, sequence) & 0xFFFFFFFF)
    sock.setsockopt(socket.IPPROTO_TCP, repair, -1)
    return json.dumps([sock.getsockname()[1], *numbers])


def forge(source: str, near: int, target: str, far: int, sequence: int, expected: int) -> None:
    """Send an acknowledgement, of whichever flow."""
    numbers = (sequence & 0xFFFFFFFF, expected)
    head = struct.pack("!HHIIBBHHH", near, far, *numbers, 5 << 4, 0x10, 1024, 0, 0)
    pseudo = socket.inet_aton(source) + socket.inet_aton(target)
    pseudo += struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(head))
    total = sum(struct.unpack(f"!{len(pseudo + head) // 2}H", pseudo + head))
    total = (total & 0xFFFF) + (total >> 16)
    head = head[:16] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + head[18:]
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw:
        raw.bind((source, 0))
        raw.sendto(head, (target, 0))


def wrong(exc: OSError) -> str:
    """What went wrong, in one word."""
    return "timeout" if isinstance(exc, TimeoutError) else errno.errorcode.get(exc.errno or 0, "?")


def ask(kind: str, address: str, port: int, count: int, sources: list[str]) -> dict[str, list[str]]:
    """Who answers new flows."""
    found: dict[str, list[str]] = {}
    for source in sources or [""]:
        for _ in range(count):
            try:
                with flow(kind, address, port, source) as sock:
                    said = talk_once(sock)
            except OSError as exc:
                said = wrong(exc)
            found.setdefault(source, []).append(said)
    return found


def load(address: str, port: int, threads: int, sources: list[str]) -> dict[str, int]:
    """Ask until stdin is closed."""
    ended = threading.Event()
    counts: collections.Counter[str] = collections.Counter()
    lock = threading.Lock()
    turns = itertools.cycle(sources)

    def work() -> None:
        while not ended.is_set():
            began = time.time()
            try:
                with flow("tcp", address, port, next(turns)) as sock:
                    said = talk_once(sock)
            except OSError as exc:
                said = f"failed: {wrong(exc)} at {began:.3f} after {time.time() - began:.3f} s"
            with lock:
                counts[said] += 1

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    print("ready", flush=True)
    sys.stdin.read()
    ended.set()
    for worker in workers:
        worker.join()
    return counts


def talk(kind: str, address: str, port: int) -> None:
    """One flow, as long as somebody writes."""
    with flow(kind, address, port) as sock:
        for line in sys.stdin:
            if line == "where\n":
                print(where(sock), flush=True)
                continue
            try:
                said = talk_once(sock)
            except OSError as exc:
                said = wrong(exc)
            print(said, flush=True)


if __name__ == "__main__":
    word, *rest = sys.argv[1:]
    if word == "serve":
        serve(rest[0], [int(port) for port in rest[1:]])
    elif word == "ask":
        print(json.dumps(ask(rest[0], rest[1], int(rest[2]), int(rest[3]), rest[4:])))
    elif word == "forge":
        forge(rest[0], int(rest[1]), rest[2], *(int(number) for number in rest[3:]))
    elif word == "set":
        with flow("tcp", rest[0], int(rest[1])) as asked:
            asked.sendall(f"GET /set/{rest[2]} HTTP/1.0\r\n\r\n".encode())
            asked.recv(100)
    elif word == "load":
        print(json.dumps(load(rest[0], int(rest[1]), int(rest[2]), rest[3:])))
    else:
        talk(rest[0], rest[1], int(rest[2]))
