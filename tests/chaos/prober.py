# SPDX-License-Identifier: Apache-2.0
"""Runs inside a VM of the stage, with the standard library alone: serves, and asks all the time.

``NAME ECHO WEB SHUT [KIND:ADDRESS:PORT...]`` answers UDP and TCP at ECHO, HTTP at WEB with its
name, and says of whatever comes to SHUT who sent it. Each PERIOD it tries each of the targets: a
datagram, a new connection, a request. A line of JSON for each answer or its absence, by the
target's number; times are the machine's monotonic clock, which all VMs of a lab share.
"""

import http.server
import json
import socket
import sys
import threading
import time

PERIOD = 1.0
PATIENCE = 0.9
"""Seconds for an answer; less than a second, in which TCP would try once more."""
_lock = threading.Lock()


def tell(**line: object) -> None:
    """Print a line; whole, whichever thread it comes from."""
    with _lock:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def echo_udp(port: int, told: bool) -> None:
    """Send back what comes; told: say so instead of keeping silent about it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("0.0.0.0", port))
        while True:
            data, sender = sock.recvfrom(100)
            if told:
                tell(arrived=port, sender=sender[0], at=time.monotonic())
            try:
                sock.sendto(data, sender)
            except OSError:
                continue  # a route that is gone meanwhile


def echo_tcp(port: int, told: bool) -> None:
    """The same, of one line a connection."""
    with socket.create_server(("0.0.0.0", port), backlog=64) as server:
        while True:
            sock, sender = server.accept()
            if told:
                tell(arrived=port, sender=sender[0], at=time.monotonic())
            threading.Thread(target=_answer, args=(sock,), daemon=True).start()


def _answer(sock: socket.socket) -> None:
    with sock:
        sock.settimeout(PATIENCE)
        try:
            sock.sendall(sock.recv(100))
        except OSError:
            return


def serve_http(port: int, name: str) -> None:
    """Answer each request with our name."""

    class Answer(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(name)))
            self.end_headers()
            self.wfile.write(name.encode())

        def log_message(self, *_told: object) -> None:
            """Nobody reads it."""

    http.server.ThreadingHTTPServer(("0.0.0.0", port), Answer).serve_forever()


def ask(number: int, kind: str, address: str, port: int) -> None:
    """Try one target for ever, at times of its own."""
    due = time.monotonic() + (number % 10) * PERIOD / 10
    while True:
        time.sleep(max(0.0, due - time.monotonic()))
        at = time.monotonic()
        try:
            ok = _tried(kind, address, port)
        except OSError:
            ok = False
        tell(flow=number, at=at, ok=ok)
        due = max(due + PERIOD, time.monotonic())


def _tried(kind: str, address: str, port: int) -> bool:
    said = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" if kind == "http" else b"x"
    family = socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, family) as sock:
        sock.settimeout(PATIENCE)
        sock.connect((address, port))
        sock.sendall(said)
        heard = sock.recv(100)
    return heard.startswith(b"HTTP/1.1 200") if kind == "http" else heard == said


def main(name: str, echo: int, web: int, shut: int, targets: list[str]) -> None:
    """Start all, and wait for the end."""
    works = [
        (echo_udp, (echo, False)), (echo_tcp, (echo, False)), (serve_http, (web, name)),
        (echo_udp, (shut, True)), (echo_tcp, (shut, True)),
    ]  # fmt: skip
    for number, target in enumerate(targets):
        kind, address, port = target.split(":")
        works.append((ask, (number, kind, address, int(port))))
    for work, words in works:
        threading.Thread(target=work, args=words, daemon=True).start()
    threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]), targets=sys.argv[5:])
