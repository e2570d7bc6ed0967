# SPDX-License-Identifier: Apache-2.0
"""The way to a lab's hub, for other processes: start it, ask it, kill it."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any, TextIO

from cnsmo.agent.system import LocalSystem
from cnsmo.lab import record
from cnsmo.lab.errors import LabError
from cnsmo.lab.hub import SOCKET
from cnsmo.lab.process import Process
from cnsmo.model.errors import CnsmoError, Unavailable

START_SECONDS = 30.0
RECORD = "hub.json"
PASSED = ("CNSMO_", "NO_COLOR", "TERM", "LANG", "LC_", "TZ", "COLUMNS")


class RemoteHub:
    """The hub of the lab in a directory, as another process sees it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def process(self) -> Process | None:
        """The hub's process, if it runs."""
        body = record.read(self.directory / RECORD)
        process = Process(**body) if body else None
        return process if process is not None and process.alive else None

    def start(self) -> None:
        """Start the hub, and wait until it answers.

        :raises LabError: when it does not come up; with the last line of its log.
        """
        log = self.directory / "hub.log"
        with _ready_socket(self.directory) as (receiver, path):
            pid = LocalSystem().start(
                sys.executable, "-m", "cnsmo.cmd.hub", str(self.directory), path, log=log
            )
            record.write(self.directory / RECORD, vars(Process.of(pid)))
            with Process.of(pid).opened() as fd:
                watched = [receiver.fileno(), *([] if fd is None else [fd])]
                ready, _, _ = select.select(watched, [], [], START_SECONDS)
            if receiver.fileno() not in ready:
                tail = log.read_text().strip().splitlines()[-1:] or ["(its log is empty)"]
                raise LabError(f"the lab's hub does not come up: {tail[0]} (see {log})")

    def kill(self) -> None:
        """SIGKILL, as a power cut would: nothing is said, nothing is saved."""
        process = self.process
        if process is not None:
            process.kill()

    def stop(self) -> None:
        """End it in good order."""
        process = self.process
        if process is not None:
            with contextlib.suppress(CnsmoError, OSError, EOFError):
                self.ask("stop")
            if not process.wait():
                process.kill()

    def manage(self, *argv: str, stdin: str = "") -> str:
        """Run a command of cnsmo-manage in the hub.

        :return: what it printed.
        :raises LabError: when it fails; with what it said.
        """
        said: dict[str, list[str]] = {"out": [], "err": []}
        code = self.ask("manage", argv, stdin, lambda stream, text: said[stream].append(text))
        if code:
            raise LabError(f"cnsmo-manage {' '.join(argv)}: {''.join(said['err']).strip()}")
        return "".join(said["out"])

    def ask(
        self,
        verb: str,
        arguments: Sequence[str] = (),
        stdin: str = "",
        sink: Callable[[str, str], None] = lambda _stream, _text: None,
    ) -> int:
        """Send one request, and pass on what comes back, as it comes.

        :return: the exit code.
        :raises Unavailable: when there is no hub that answers.
        """
        fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            connection = Client(f"/proc/self/fd/{fd}/{SOCKET}", "AF_UNIX")
        except OSError as exc:
            raise Unavailable(
                f"the hub of the lab in {self.directory} does not answer: 'cnsmo-manage lab down', "
                "then up again"
            ) from exc
        finally:
            os.close(fd)
        with connection:
            connection.send((verb, list(arguments), stdin, os.getcwd(), _environment()))
            while True:
                stream, what = _receive(connection)
                if stream == "end":
                    return int(what)
                sink(stream, what)

    def pass_on(self, argv: Sequence[str], stdin: TextIO, out: TextIO, err: TextIO) -> int:
        """Run a command of cnsmo-manage in the hub as if it ran here."""
        text = stdin.read() if "-" in argv else ""

        def sink(stream: str, said: str) -> None:
            target = out if stream == "out" else err
            target.write(said)
            target.flush()

        return self.ask("manage", argv, text, sink)


def _environment() -> dict[str, str]:
    """What of the caller's environment a command may look at."""
    return {name: value for name, value in os.environ.items() if name.startswith(PASSED)}


def _receive(connection: Any) -> tuple[str, Any]:
    try:
        stream, what = connection.recv()
    except (EOFError, ConnectionError) as exc:
        raise Unavailable("the lab's hub ended before it answered") from exc
    return stream, what


@contextlib.contextmanager
def _ready_socket(directory: Path) -> Iterator[tuple[socket.socket, str]]:
    """A socket on which the hub says that it is up, and its path for the hub."""
    name = f"ready-{os.getpid()}.sock"
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        receiver.bind(f"/proc/self/fd/{fd}/{name}")
        yield receiver, name
    finally:
        receiver.close()
        os.close(fd)
        (directory / name).unlink(missing_ok=True)
