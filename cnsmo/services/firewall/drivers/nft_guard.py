# SPDX-License-Identifier: Apache-2.0
"""The agent's side of the guard: started once, and then told what to watch over. See guard."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import uuid
import weakref
from pathlib import Path

from oslo_log import log

from cnsmo.model.errors import DriverError, ProgramError
from cnsmo.services.base import System
from cnsmo.services.firewall.drivers import guard
from cnsmo.services.kit.private_files import read_private

LOG = log.getLogger(__name__)
ARM_SECONDS = 10.0
FILE = "guard.log"
SYSTEMD = "/run/systemd/system"


class Guard:
    """One guard process, which is there for as long as this object, and longer during a trial."""

    def __init__(self, system: System, state_dir: Path) -> None:
        self._system = system
        self._dir = state_dir
        self._line: socket.socket | None = None
        self._watched = ""
        """The id of the trial that it watches over."""
        self._systemd: bool | None = None
        """Whether systemd runs here; None: not looked yet."""

    def stand_by(self) -> None:
        """Start it, so that it has not to be waited for later; without it, that is tried again."""
        if self._line is None:
            try:
                self._line = self._started()
            except (DriverError, ProgramError) as exc:
                LOG.info("%s", exc)

    def watch(self, ident: str) -> None:
        """Have it watch over a trial; what it watched over before, it does no more.

        :raises DriverError, ProgramError: when it cannot be had.
        """
        if not self._told(ident.encode()):  # it was not there yet, or is dead
            self._line = self._started()
            if not self._told(ident.encode()):
                raise DriverError(f"the guard of a new ruleset does not watch: {self._said()}")
        self._watched = ident

    def rests(self, ident: str) -> bool:
        """Have it watch over a trial no more, if it does; False: somebody else does, or nobody."""
        if ident != self._watched:
            return False
        self._watched = ""
        return self._told(guard.REST)

    def dismiss(self) -> None:
        """Let it end; returns when it has, if nothing is on trial."""
        if self._line is not None:
            with contextlib.suppress(OSError):
                self._line.shutdown(socket.SHUT_WR)
                self._line.recv(guard.LONGEST_ORDER)
            self._line.close()
            self._line = None

    def _told(self, order: bytes) -> bool:
        """Whether it did as told; one that does not is not asked again."""
        if self._line is None:
            return False
        try:
            self._line.send(order)
            done = self._line.recv(guard.LONGEST_ORDER) == order
        except OSError:
            done = False
        if not done:
            self._line.close()
            self._line = None
        return done

    def _started(self) -> socket.socket:
        """Start it, and wait for its call.

        :raises DriverError: when it does not call.
        """
        folder = os.open(self._dir, os.O_RDONLY | os.O_DIRECTORY)
        name = self._dir / guard.SOCKET
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
            try:
                name.unlink(missing_ok=True)
                door.bind(guard.socket_name(folder))
                door.listen(1)
                door.settimeout(ARM_SECONDS)
                self._start()
                line = door.accept()[0]
            except OSError as exc:
                said = f"{self._said()} ({exc})"
                raise DriverError(f"the guard of a new ruleset does not start: {said}") from exc
            finally:
                os.close(folder)
                name.unlink(missing_ok=True)
        line.settimeout(ARM_SECONDS)
        weakref.finalize(self, line.close)
        return line

    def _said(self) -> str:
        return (read_private(self._dir / FILE) or "it said nothing").strip()[-300:]

    def _start(self) -> None:
        """Where systemd runs, as a unit of its own."""
        command = (sys.executable, "-I", "-S", guard.__file__, str(self._dir))
        if not self._start_unit(f"cnsmo-firewall-guard-{uuid.uuid4().hex[:12]}", command):
            self._system.start(*command, log=self._dir / FILE)

    def _start_unit(self, unit: str, command: tuple[str, ...]) -> bool:
        """Start it outside of the agent's own unit; False where that cannot be done."""
        if self._systemd is None:
            self._systemd = not self._system.run("test", "-d", SYSTEMD, ok=(0, 1)).code
        if not self._systemd:
            return False
        try:
            self._system.run("systemd-run", "--quiet", "--collect", f"--unit={unit}", *command)
        except ProgramError:
            return False  # no systemd to talk to, as in a container: a session of its own must do
        return True
