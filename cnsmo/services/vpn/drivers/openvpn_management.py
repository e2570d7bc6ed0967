# SPDX-License-Identifier: Apache-2.0
"""Talks to a running openvpn through its management socket (doc/management-notes.txt of OpenVPN).

The socket takes one visitor at a time; a visit here lasts milliseconds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import os
import socket
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from cnsmo.model.errors import ProgramError
from cnsmo.model.names import LABEL, check_label
from cnsmo.services.vpn.drivers.openvpn_config import SOCKET

PATIENCE = 2.0
"""Seconds for an answer; OpenVPN has one thread, and a handshake may keep it for some 10 ms."""
CONNECTED = "CONNECTED"
"""The state of a client with a tunnel, and of a hub that is ready for clients."""
SENDING = 0.1
"""Seconds that a message to a client takes until it is on its way."""


@dataclasses.dataclass(frozen=True)
class State:
    """What the daemon is about (``name``), since when (seconds since the epoch), and with whom."""

    name: str
    since: float
    remote: str | None = None


@dataclasses.dataclass(frozen=True)
class Session:
    """A client of the hub. ``age``: seconds since it connected; bytes as seen from here.

    ``networks``: what is sent to it.
    """

    host: str
    id: int
    endpoint: str
    age: float
    received: int
    sent: int
    networks: frozenset[str]


class Management:
    """A visit to the daemon whose files are in state_dir; use it as a context manager.

    :raises ProgramError: when nobody answers.
    """

    def __init__(self, state_dir: Path, patience: float = PATIENCE) -> None:
        self._state_dir = state_dir
        self._patience = patience

    def __enter__(self) -> Self:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(self._patience)
        try:
            with _short(self._state_dir / SOCKET) as path:
                self._socket.connect(path)
            self._lines = self._socket.makefile("r", encoding="utf-8", errors="replace")
        except OSError as exc:
            self._socket.close()
            raise ProgramError(f"openvpn does not answer: {exc}") from exc
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lines.close()
        self._socket.close()

    def state(self) -> State:
        """What the daemon is about."""
        return parse_state(self._ask("state"))

    def sessions(self) -> list[Session]:
        """The hub's clients, those that are just shaking hands left out."""
        return parse_sessions(self._ask("status 3"))

    def traffic(self) -> tuple[int, int]:
        """Bytes received and sent by a client's daemon, tunnel overhead included."""
        return parse_traffic(self._ask("status 3"))

    def send_away(self, sessions: Iterable[Session]) -> None:
        """Tell clients to start again; the daemon has sent that when this returns.

        Each has some seconds in which its session goes on (scheduled exit), polite or not.
        """
        told = [self._ask(f"client-kill {session.id:d}") for session in sessions]
        if told:
            time.sleep(SENDING)  # no answer says when it has gone out

    def expel(self, sessions: Iterable[Session]) -> None:
        """End sessions at once; the clients are told, so that they need not find out."""
        sessions = tuple(sessions)
        self.send_away(sessions)
        for session in sessions:
            self._ask(f"kill {check_label(session.host)}")

    def _ask(self, command: str) -> list[str]:
        """The lines of an answer; the news that arrives between them (">...") is left out."""
        try:
            self._socket.sendall(f"{command}\n".encode("ascii"))
            answer: list[str] = []
            for line in self._lines:
                text = line.rstrip("\r\n")
                if text.startswith(("SUCCESS:", "ERROR:")):
                    return [text]
                if text == "END":
                    return answer
                if not text.startswith(">"):
                    answer.append(text)
        except OSError as exc:
            raise ProgramError(f"openvpn does not answer {command!r}: {exc}") from exc
        raise ProgramError(f"openvpn ended while it was asked {command!r}")


def parse_state(lines: list[str]) -> State:
    """``state``: time, name, detail, own address, remote address, remote port, ..."""
    fields = [*(lines[-1].split(",") if lines else []), *[""] * 6]
    since = float(fields[0]) if fields[0].isdecimal() else 0.0
    return State(fields[1], since, _endpoint(fields[4], fields[5]))


def parse_sessions(lines: list[str]) -> list[Session]:
    """``status 3`` of a server: tab-separated, columns named by its HEADER lines."""
    now = time.time()
    columns: dict[str, list[str]] = {}
    clients: list[dict[str, str]] = []
    networks: dict[tuple[str, str], set[str]] = {}
    for line in lines:
        first, *fields = line.split("\t")
        if first == "TIME":
            now = float(fields[1])
        elif first == "HEADER":
            columns[fields[0]] = fields[1:]
        elif first in columns:
            row = dict(zip(columns[first], fields, strict=False))
            if first == "CLIENT_LIST" and LABEL.fullmatch(row["Common Name"]):
                clients.append(row)
            elif first == "ROUTING_TABLE" and not row["Virtual Address"].endswith("C"):
                owner = (row["Common Name"], row["Real Address"])
                network = str(ipaddress.ip_network(row["Virtual Address"]))
                networks.setdefault(owner, set()).add(network)
    return [
        Session(
            host=row["Common Name"],
            id=int(row["Client ID"]),
            endpoint=row["Real Address"],
            age=max(0.0, now - float(row["Connected Since (time_t)"])),
            received=int(row["Bytes Received"]),
            sent=int(row["Bytes Sent"]),
            networks=frozenset(networks.get((row["Common Name"], row["Real Address"]), ())),
        )
        for row in clients
    ]


def parse_traffic(lines: list[str]) -> tuple[int, int]:
    """``status 3`` of a client: ``name,number`` lines."""
    numbers = dict(line.split(",", 1) for line in lines if line.count(",") == 1)
    return int(numbers.get("TCP/UDP read bytes", 0)), int(numbers.get("TCP/UDP write bytes", 0))


def _endpoint(address: str, port: str) -> str | None:
    if not address:
        return None
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """The path by way of its directory's descriptor: a socket's may have 107 bytes, see unix(7)."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
