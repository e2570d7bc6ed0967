# SPDX-License-Identifier: Apache-2.0
"""A web server of a pool, run by its path: ``hap_backend.py NAME PORT FOLDER``; prints ``ready``.

It answers with what it was asked, as JSON; while FOLDER/NAME.sick exists, it is unwell. What the
last check asked is told at ``/checked``; checks of ``/healthz/turns`` are good and bad in turn. It
understands the PROXY protocol, where somebody speaks it.
"""

import http.server
import ipaddress
import json
import socket
import sys
import time
from pathlib import Path

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
"""First bytes of a PROXY header, version 2 (proxy-protocol.txt, 2.2)."""
TICK = 0.05


class Server(http.server.ThreadingHTTPServer):
    """Of both IP versions."""

    address_family = socket.AF_INET6
    request_queue_size = 512
    daemon_threads = True
    name = ""
    sick = Path()
    checked: dict = {}
    """What the last check asked."""
    turns = 0
    """How often a check was answered that comes out good and bad in turn."""


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    server: Server
    proxied = ""

    def setup(self):
        super().setup()
        self.proxied = self._read_proxy()

    def do_GET(self):
        if self.headers.get("Content-Length"):
            self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.startswith("/slow/"):
            return self._slowly(float(self.path.rpartition("/")[2]))
        if self.path.startswith("/wait/"):
            time.sleep(float(self.path.rpartition("/")[2]))
        check, status = self.path.startswith("/healthz"), 200
        if self.path == "/healthz/turns":
            self.server.turns += 1
            status = 200 if self.server.turns % 2 else 503
        elif check and self.server.sick.exists():
            status = 503
        heard = {
            "name": self.server.name, "method": self.command, "path": self.path,
            "headers": {key.lower(): value for key, value in self.headers.items()},
            "client": self.client_address[0].removeprefix("::ffff:"), "proxied": self.proxied,
            "turns": self.server.turns,
        }  # fmt: skip
        if check:
            self.server.checked = heard
        elif self.path == "/checked":
            heard = self.server.checked
        return self._answer(status, json.dumps(heard).encode())

    do_POST = do_PUT = do_HEAD = do_OPTIONS = do_GET  # noqa: N815

    def log_message(self, *_arguments):
        """Nobody reads it."""

    def _answer(self, status: int, body: bytes):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Backend", self.server.name)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _slowly(self, seconds: float):
        """A download that takes that long."""
        count = round(seconds / TICK)
        self.send_response(200)
        self.send_header("Content-Length", str(count))
        self.send_header("X-Backend", self.server.name)
        self.end_headers()
        for _ in range(count):
            self.wfile.write(b"x")
            self.wfile.flush()
            time.sleep(TICK)

    def _read_proxy(self) -> str:
        """Who is called the client; "" where nobody is."""
        first = self.connection.recv(12, socket.MSG_PEEK)
        if first.startswith(b"PROXY "):
            return self.rfile.readline().decode().split()[2]
        if first != SIGNATURE:
            return ""
        header = self.rfile.read(16)
        rest = self.rfile.read(int.from_bytes(header[14:16], "big"))
        if header[12] & 0xF == 0:
            return "local"
        return str(ipaddress.ip_address(rest[:4] if header[13] >> 4 == 1 else rest[:16]))


def main(name: str, port: str, folder: str) -> None:
    """Serve until it is killed."""
    server = Server(("::", int(port)), Handler)
    server.name, server.sick = name, Path(folder, f"{name}.sick")
    print("ready", flush=True)
    server.serve_forever(poll_interval=60)


if __name__ == "__main__":
    main(*sys.argv[1:])
