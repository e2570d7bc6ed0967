# SPDX-License-Identifier: Apache-2.0
"""A check of a server, over real sockets."""

import dataclasses
import errno
import select
import selectors
import socket
import threading

import pytest

from cnsmo.services.loadbalancer.drivers.nfl_probe import Probe, Result, judged, request
from cnsmo.services.loadbalancer.drivers.nfl_wanted import Inspection, Target

TCP = Inspection("tcp", 1.0, 5.0, 1, 1)
HTTP = dataclasses.replace(TCP, kind="http", path="/healthz", statuses=((200, 299), (404, 404)))


def checked(check: Inspection, port: int, address: str = "127.0.0.1") -> Result:
    """What a check comes to."""
    version = 6 if ":" in address else 4
    probe = Probe(Target("a", version, address, port, 1), check, 0.0)
    try:
        result = probe.begin()
        while result is None:
            assert probe.socket
            reading = probe.events == selectors.EVENT_READ
            waiting = ([probe.socket], []) if reading else ([], [probe.socket])
            assert any(select.select(*waiting, [], 10))
            result = probe.advance()
    finally:
        probe.close()
    assert probe.advance() is None
    return result


class Server:
    """Answers one connection with these pieces."""

    def __init__(self, *pieces: bytes, address: str = "127.0.0.1") -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.asked = b""
        self._pieces = pieces
        self._sock = socket.create_server((address, 0), family=family)
        self.port = self._sock.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_exc):
        self._thread.join(10)
        self._sock.close()

    def _serve(self) -> None:
        with self._sock.accept()[0] as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._pieces:
                self.asked = sock.recv(4096)
            for piece in self._pieces:
                sock.sendall(piece)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_server_that_takes_the_connection_is_well(address):
    with Server(address=address) as server:
        assert checked(TCP, server.port, address) == Result(True, "connected")


def test_one_that_refuses_is_not():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    assert checked(TCP, port) == Result(False, "connection refused")
    assert checked(HTTP, port) == Result(False, "connection refused")


@pytest.mark.parametrize(
    ("pieces", "result"),
    [
        ((b"HTTP/1.1 204 No Content\r\n\r\n",), Result(True, "HTTP 204")),
        ((b"HTTP/1", b".0 4", b"04 Not", b" Found\r\n"), Result(True, "HTTP 404")),
        ((b"HTTP/1.1 500\r\n",), Result(False, "HTTP 500")),
        ((b"SSH-2.0-OpenSSH\r\n",), Result(False, "no HTTP")),
        ((b"x" * 5000,), Result(False, "no HTTP")),
        ((b"",), Result(False, "closed without an answer")),
        ((b"HTTP/1.1 2",), Result(False, "closed without an answer")),
    ],
)
def test_http_is_judged_by_its_first_line(pieces, result):
    with Server(*pieces) as server:
        assert checked(HTTP, server.port) == result
    assert server.asked.startswith(b"GET /healthz HTTP/1.1\r\n")


def test_what_is_asked():
    target = Target("a", 6, "fd66::1", 8080, 1)
    check = dataclasses.replace(HTTP, method="HEAD", path="/a?b=c", host="shop.example")
    assert request(target, check) == (
        b"HEAD /a?b=c HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: cnsmo\r\nAccept: */*\r\n"
        b"Connection: close\r\n\r\n"
    )
    assert b"\r\nHost: [fd66::1]:8080\r\n" in request(target, HTTP)


def test_an_answer_that_does_not_come_is_named():
    probe = Probe(Target("a", 4, "127.0.0.1", 1, 1), dataclasses.replace(TCP, timeout=0.5), 7.0)
    assert probe.deadline == 7.5
    assert probe.expire() == Result(False, "no answer within 0.5 s")


def test_what_is_this_hosts_fault_says_nothing_about_the_server(monkeypatch):
    def full(*_args):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "socket", full)
    probe = Probe(Target("a", 4, "127.0.0.1", 1, 1), TCP, 0.0)
    assert probe.begin() == Result(None, "too many open files")


@pytest.mark.parametrize("line", [b"HTTP/1.1 2000 x\r\n", b"HTTP/1.1 abc\r\n", b"\r\n", b"HTTP\n"])
def test_other_lines_are_no_http(line):
    assert judged(line, ((0, 999),)) == Result(False, "no HTTP")
