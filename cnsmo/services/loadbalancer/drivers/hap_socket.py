# SPDX-License-Identifier: Apache-2.0
"""Talks to a running haproxy through its sockets (HAProxy's management guide, 9.3 and 9.4).

``stats.sock`` is the newest worker's; ``master.sock`` is the master's, which passes on what begins
with ``@!PID`` to one of the workers (not after a reload that failed, though: HAProxy 2.6).
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path

from cnsmo.model.errors import ProgramError

STATS, MASTER = "stats.sock", "master.sock"
PATIENCE = 5.0
"""Seconds for an answer; a worker that checks a thousand servers answers in milliseconds."""
PROMPTS = {STATS: b"\n> ", MASTER: b"master> "}


class HapSocket:
    """Asks one of the sockets in state_dir; each visit is a connection of its own.

    :raises ProgramError: when nobody answers.
    """

    def __init__(self, state_dir: Path, name: str = STATS, whom: str = "") -> None:
        """whom: to whom the master passes commands on, as ``@!PID``."""
        self._path = state_dir / name
        self._prompt = PROMPTS[name]
        self._whom = f"{whom} " if whom else ""

    @property
    def open(self) -> bool:
        """Whether somebody listens."""
        try:
            with self._visit():
                return True
        except ProgramError:
            return False

    def ask(self, command: str) -> str:
        """What is answered to a command."""
        with self._visit() as visit:
            visit.sendall(f"{self._whom}{command}\n".encode("ascii"))
            visit.shutdown(socket.SHUT_WR)  # the master would wait for more
            parts = []
            while part := visit.recv(1 << 16):
                parts.append(part)
        return b"".join(parts).decode("utf-8", "replace").strip()

    def tell(self, commands: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Carry out commands, one after the other; each with what was answered to it."""
        with self._visit() as visit:
            self._exchange(visit, "prompt")
            for command in commands:
                yield command, self._exchange(visit, f"{self._whom}{command}")

    def _exchange(self, visit: socket.socket, command: str) -> str:
        visit.sendall(f"{command}\n".encode("ascii"))
        answer = b""
        while not answer.endswith(self._prompt):
            part = visit.recv(1 << 16)
            if not part:
                raise ProgramError(f"haproxy ended while it was told {command!r}")
            answer += part
        return answer.removesuffix(self._prompt).decode("utf-8", "replace").strip()

    @contextlib.contextmanager
    def _visit(self) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as visit:
            visit.settimeout(PATIENCE)
            try:
                with _short(self._path) as path:
                    visit.connect(path)
                yield visit
            except OSError as exc:
                raise ProgramError(f"haproxy does not answer: {exc}") from exc


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """The path by way of its directory's descriptor: a socket's may have 107 bytes, see unix(7)."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
