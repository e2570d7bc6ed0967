# SPDX-License-Identifier: Apache-2.0
"""Runs inside of a VM: serves ports, or finds out what becomes of a packet sent to one.

``probe.py serve PORT...`` answers TCP and UDP on IPv4 and IPv6. ``probe.py tcp|udp ADDRESS PORT``
prints open, refused (the sender was told), or silent; a third word is the port to send from.
``probe.py talk ADDRESS PORT`` keeps one TCP connection and prints ``ok`` for each line from stdin
that comes back. ``probe.py hear ADDRESS PORT`` keeps one and only listens, to what ``probe.py tell
PORT`` passes on from its stdin.
"""

import errno
import selectors
import socket
import sys

WAIT = 0.7
TOLD = (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.EPERM)


def serve(ports: list[int]) -> None:
    """Echo whatever comes."""
    selector = selectors.DefaultSelector()
    for port in ports:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            sock = socket.socket(socket.AF_INET6, kind)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.bind(("::", port))
            if kind == socket.SOCK_STREAM:
                sock.listen(64)
            selector.register(sock, selectors.EVENT_READ, kind == socket.SOCK_STREAM)
    print("ready", flush=True)
    while True:
        for key, _events in selector.select():
            sock = key.fileobj
            assert isinstance(sock, socket.socket)
            if key.data:
                selector.register(sock.accept()[0], selectors.EVENT_READ, None)
            elif key.data is None:
                if data := sock.recv(100):
                    sock.sendall(data)
                else:
                    selector.unregister(sock)
                    sock.close()
            else:
                data, sender = sock.recvfrom(100)
                sock.sendto(data, sender)


def ask(kind: str, address: str, port: int, source: int = 0) -> str:
    """What becomes of a first packet."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as sock:
        sock.settimeout(WAIT)
        if source:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("", source))
        try:
            sock.connect((address, port))
            if kind == "udp":
                sock.send(b"x")
                sock.recv(10)
        except TimeoutError:
            return "silent"
        except OSError as exc:
            return "refused" if exc.errno in TOLD else f"error {exc}"
    return "open"


def talk(address: str, port: int) -> None:
    """One connection, as long as somebody writes."""
    sock = socket.create_connection((address, port), WAIT)
    print("ok", flush=True)
    for line in sys.stdin:
        try:
            sock.sendall(line.encode())
            sock.recv(100)
            print("ok", flush=True)
        except OSError:
            print("silent", flush=True)


def tell(port: int) -> None:
    """Pass on to the first who comes what is written here."""
    with socket.create_server(("0.0.0.0", port)) as server:
        print("ready", flush=True)
        sock = server.accept()[0]
    for line in sys.stdin:
        sock.sendall(line.encode())


def hear(address: str, port: int) -> None:
    """Say nothing, and print what is told; ``silent`` when nothing is for too long."""
    sock = socket.create_connection((address, port), WAIT)
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        print(sock.recv(100).decode().strip())
    except TimeoutError:
        print("silent")


if __name__ == "__main__":
    word, *rest = sys.argv[1:]
    if word == "serve":
        serve([int(port) for port in rest])
    elif word == "talk":
        talk(rest[0], int(rest[1]))
    elif word == "tell":
        tell(int(rest[0]))
    elif word == "hear":
        hear(rest[0], int(rest[1]))
    else:
        print(ask(word, rest[0], *map(int, rest[1:])))
