# SPDX-License-Identifier: Apache-2.0
"""nft(8) without starting it each time: a process that stays, and carries out what it is told.

Where its library is not there, or a command is none that it knows, the program itself is run.
"""

from __future__ import annotations

import json
import os
import select
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import IO, Protocol

from oslo_log import log

from cnsmo.agent import nft_server
from cnsmo.model.errors import ProgramError

LOG = log.getLogger(__name__)
PROGRAM = "nft"
START_SECONDS = 10.0
MILLI = 1e3
MOST_CHARACTERS = 1 << 15
"""Of a command, JSON included: a pipe takes as much at once. What is longer is worth a process,
which gives its memory back."""


class Process(Protocol):
    """What is needed of ``subprocess.Popen``, with pipes."""

    stdin: IO[bytes] | None
    stdout: IO[bytes] | None

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""

    def kill(self) -> None:
        """End it."""

    def wait(self) -> int:
        """Wait for its end."""


class NftClient:
    """Keeps one process; it ends when this object does, or the agent."""

    def __init__(self, start: Callable[[str], Process]) -> None:
        """start: of a Python script, with pipes for its input and output; may raise OSError."""
        self._start = start
        self._turn = threading.Lock()
        self._process: Process | None = None
        self._able = True

    def run(
        self, args: Sequence[str], stdin: str | None, timeout: float
    ) -> tuple[int, str, str] | None:
        """What the program with these arguments comes to; None: it has to be run itself.

        :raises ProgramError: when the process ends over it, or it takes longer than timeout.
        """
        if not self._able or args[0] != PROGRAM or not nft_server.understands(args[1:]):
            return None
        asked = json.dumps({"args": args[1:], "stdin": stdin or ""}).encode() + b"\n"
        if len(asked) > MOST_CHARACTERS or not self._turn.acquire(blocking=False):
            return None
        try:
            process = self._ready()
            return None if process is None else self._ask(process, asked, timeout)
        finally:
            self._turn.release()

    def _ready(self) -> Process | None:
        """The process, started if need be; None, now and later, where that cannot be."""
        if self._process is not None and self._process.poll() is None:
            return self._process
        try:
            process = self._process = self._start(nft_server.__file__)
            weakref.finalize(self, _end, process)
            self._able = _line(process, START_SECONDS) == b"ready\n"
        except OSError:
            self._able = False
        if not self._able:
            LOG.info("nft's library cannot be used here: the program is run each time")
            self._give_up()
        return self._process

    def _ask(self, process: Process, asked: bytes, timeout: float) -> tuple[int, str, str]:
        assert process.stdin is not None  # nosec B101  # it is one with pipes
        try:
            process.stdin.write(asked)
            process.stdin.flush()
            line = _line(process, timeout)
        except TimeoutError as exc:
            self._give_up()
            raise ProgramError(f"{PROGRAM} did not end within {timeout:g} s") from exc
        except OSError:
            line = b""
        if not line.endswith(b"\n"):
            self._give_up()
            raise ProgramError(f"{PROGRAM} ended before it was done")
        code, said, errors = json.loads(line)
        return int(code), str(said), str(errors)

    def _give_up(self) -> None:
        if self._process is not None:
            _end(self._process)
        self._process = None


def _line(process: Process, timeout: float) -> bytes:
    """The next line that it says, or its last words, without an end.

    :raises TimeoutError: when it does not say one in time.
    """
    assert process.stdout is not None  # nosec B101  # it is one with pipes
    until = time.monotonic() + timeout
    number, parts = process.stdout.fileno(), [b""]
    ready = select.poll()  # its number may be a high one
    ready.register(number, select.POLLIN)
    while not parts[-1].endswith(b"\n"):
        if not ready.poll(max(0.0, until - time.monotonic()) * MILLI):
            raise TimeoutError
        parts.append(os.read(number, 1 << 16))
        if not parts[-1]:
            break
    return b"".join(parts)


def _end(process: Process) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None and not pipe.closed:
            pipe.close()
    process.kill()
    process.wait()
