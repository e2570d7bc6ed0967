# SPDX-License-Identifier: Apache-2.0
"""Processes that something keeps running, as systemd does: an agent in a VM, a core.

One that ended is started again after a pause, unless it was told to end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from cnsmo.lab.errors import LabError
from cnsmo.lab.process import Process, child_of
from tests.beds.process import ServerProcess

RESTART = 2.0
"""Seconds, as RestartSec in etc/systemd."""
END_SECONDS = 30.0
Command = Callable[[], tuple[list[str], Mapping[str, str]]]
"""A command and its environment; asked for at each start, as what leads into a VM changes."""


class Service:
    """One of them. All methods may be called from any thread."""

    def __init__(self, name: str, command: Command, log: Path, inside: bool = False) -> None:
        """inside: it is the only child of what is started, which is nsenter; else all of its
        family is meant."""
        self.name, self.log = name, log
        self.starts = 0
        self._command, self._inside = command, inside
        self._process: ServerProcess | None = None
        self._done = threading.Event()
        self._keeper: threading.Thread | None = None

    def start(self) -> None:
        """Run it from now on."""
        self._done.clear()
        self._spawn()
        self._keeper = threading.Thread(target=self._keep, name=self.name, daemon=True)
        self._keeper.start()

    def kill(self) -> None:
        """kill -9; it is started again. Raises ProcessLookupError when it does not run."""
        for process in self._processes():
            process.signal_kill()

    def freeze(self) -> None:
        """SIGSTOP. Raises ProcessLookupError when it does not run."""
        for process in self._processes():
            _send(process, signal.SIGSTOP)

    def thaw(self) -> None:
        """The end of `freeze`."""
        with contextlib.suppress(ProcessLookupError):
            for process in self._processes():
                _send(process, signal.SIGCONT)
            if self._process:  # nsenter stops when its child does
                _send(Process.of(self._process.pid), signal.SIGCONT)

    def end(self) -> None:
        """kill -9 for good, or until it is started again; fine when it has ended."""
        self._done.set()
        with contextlib.suppress(ProcessLookupError):
            self.kill()
        assert self.join(), f"{self.name} does not end"

    def let_go(self) -> None:
        """Do not start it again when it ends."""
        self._done.set()

    def join(self, timeout: float = END_SECONDS) -> bool:
        """Wait for its end; returns whether it has ended."""
        if self._keeper is not None:
            self._keeper.join(timeout)
            return not self._keeper.is_alive()
        return True

    def _spawn(self) -> None:
        command, env = self._command()
        self.starts += 1
        self._process = ServerProcess(command, log=self.log, env=env)

    def _keep(self) -> None:
        while self._process is not None:
            while self._process.alive:
                with contextlib.suppress(Exception):
                    self._process.wait(3600)
            if self._done.wait(RESTART):
                return
            try:
                self._spawn()
            except LabError:
                if not self._done.is_set():
                    raise
                return  # its VM was switched off this moment

    def _processes(self) -> list[Process]:
        process = self._process
        if process is None or not process.alive:
            raise ProcessLookupError(f"{self.name} does not run")
        if self._inside:
            return [child_of(process.pid)]
        return [Process.of(process.pid), *_living(process.family)]


def within(init: int, program: str) -> list[Process]:
    """The processes of a VM that run a program or script; init: its first, from outside."""
    place = os.stat(f"/proc/{init}/ns/pid").st_ino
    found = []
    for entry in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{entry}/ns/pid").st_ino != place:
                continue
            words = Path(f"/proc/{entry}/cmdline").read_bytes().decode(errors="replace")
            if program in (Path(word).stem for word in words.split("\0")[:4]):
                found += _living([int(entry)])
    return found


def freeze(processes: list[Process]) -> None:
    """SIGSTOP."""
    for process in processes:
        _send(process, signal.SIGSTOP)


def thaw(processes: list[Process]) -> None:
    """The end of `freeze`; fine for those who are gone."""
    for process in processes:
        _send(process, signal.SIGCONT)


def _living(pids: list[int]) -> list[Process]:
    found = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            found.append(Process.of(pid))
    return found


def _send(process: Process, number: signal.Signals) -> None:
    with process.opened() as fd:
        if fd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, number)
