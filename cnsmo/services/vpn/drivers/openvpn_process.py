# SPDX-License-Identifier: Apache-2.0
"""The openvpn daemon of one unit: started with its files, replaced, found again, ended.

What it runs with is what is on the disk: files are exchanged only while it does not run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import stat
import time
from pathlib import Path

from cnsmo.model.errors import DriverError, ProgramError
from cnsmo.services.base import System
from cnsmo.services.kit.daemon import Daemon
from cnsmo.services.kit.private_files import read_private, write_private
from cnsmo.services.vpn.drivers.openvpn_config import CONFIG, IDENTITY, SOCKET
from cnsmo.services.vpn.drivers.openvpn_management import CONNECTED, Management

OPENVPN = "openvpn"
START_SECONDS = 5.0
"""How long it may take from its start until its socket listens and its files have been read."""
BIRTH_SECONDS = 0.2
"""How long its process may still look like another one, between fork and exec."""
SETTLE_SECONDS = 1.0
"""How long a client is given to connect, so that what is observed next is not a false alarm."""
SWITCH_SECONDS = 0.2
"""How long a daemon may take to end before it is ended by force, when the next one is waiting."""
BEGINNING = ("", "CONNECTING")
"""States in which it may still find something wrong with its files."""


@dataclasses.dataclass(frozen=True)
class Files:
    """What the daemon reads when it starts; ``serves``: it is the hub's."""

    config: str
    identity: str
    serves: bool


class OpenvpnProcess:
    """The daemon and its files in state_dir."""

    def __init__(self, system: System, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._system = system
        self._args = ("--cd", str(state_dir), "--config", CONFIG)
        self._daemon = Daemon(system, state_dir, OPENVPN, *self._args)

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._daemon.pid is not None

    def drift(self, wanted: Files | None) -> list[str]:
        """What is not as wanted (None: it shall not run), one line each."""
        if not self.running:
            return ["openvpn does not run"] if wanted else []
        if wanted is None:
            return ["openvpn runs, and has no hub to talk to"]
        found = []
        if self._text(CONFIG) != wanted.config:
            found.append("openvpn runs with another configuration")
        if self._text(IDENTITY) != wanted.identity:
            found.append("openvpn runs with another certificate")
        return found

    def converge(self, wanted: Files | None) -> list[str]:
        """Make it run with these files; a running one that has them already is left alone.

        :return: what was changed, one line each.
        :raises DriverError: when it does not work with them; the earlier one runs again then.
        """
        if wanted is None:
            if not self.running:
                return []
            self.stop()
            return ["openvpn: stopped, there is no hub"]
        running = self.running
        if running and not self.drift(wanted):
            self._guard_socket()
            self._daemon.trim_log()
            return []
        self._replace(wanted, running)
        return ["openvpn: started anew" if running else "openvpn: started"]

    def stop(self) -> None:
        """End it; a client says good-bye to the hub, which takes a second."""
        self._daemon.stop()
        self._stop_orphan()

    def last_words(self) -> str:
        """The end of its log."""
        return self._daemon.last_words()

    def _replace(self, wanted: Files, running: bool) -> None:
        old = Files(self._text(CONFIG), self._text(IDENTITY), serves=False)
        names = {CONFIG: wanted.config, IDENTITY: wanted.identity}
        for name, text in names.items():
            write_private(self._staged(name), text)  # a full disk is found out here
        try:
            if running:
                self._send_clients_away()
                self._daemon.stop(SWITCH_SECONDS)
            for name in names:
                self._staged(name).replace(self._state_dir / name)
            self._run(wanted.serves)
        except (ProgramError, DriverError, OSError) as exc:
            if running:
                self._go_back(old)
            else:
                self._daemon.stop(SWITCH_SECONDS)
            raise DriverError(f"openvpn does not work as desired: {exc}") from exc

    def _go_back(self, old: Files) -> None:
        self._daemon.stop(SWITCH_SECONDS)
        write_private(self._state_dir / CONFIG, old.config)
        write_private(self._state_dir / IDENTITY, old.identity)
        self._run(old.serves)

    def _send_clients_away(self) -> None:
        """They come back after a second; without a word they would wait for signs of life."""
        with contextlib.suppress(ProgramError), Management(self._state_dir) as management:
            management.send_away(management.sessions())

    def _run(self, serves: bool) -> None:
        """Start it, and wait until it works; a client that is not let in tries twice.

        Often the hub hears of a new member a moment later than the member of itself, and openvpn
        alone would try again only after HANDSHAKE seconds.
        """
        self._start(serves)
        if not self._connects() and self.running:
            self._daemon.stop(SWITCH_SECONDS)
            self._start(serves)
            self._connects()

    def _start(self, serves: bool) -> None:
        self._stop_orphan()
        (self._state_dir / SOCKET).unlink(missing_ok=True)
        self._daemon.start()
        born = time.monotonic()
        while (state := self._state()) in BEGINNING or (serves and state != CONNECTED):
            age = time.monotonic() - born
            if age > BIRTH_SECONDS and not self.running:
                raise self._daemon.died()
            if age > START_SECONDS:
                raise ProgramError(f"it does not get ready: {self.last_words() or state}")
            time.sleep(0.01)  # its socket is the only sign
        self._guard_socket()

    def _connects(self) -> bool:
        until = time.monotonic() + SETTLE_SECONDS
        while (connected := self._state() == CONNECTED) is False and time.monotonic() < until:
            time.sleep(0.02)
        return connected

    def _stop_orphan(self) -> None:
        """End one whose start was interrupted before its process id was written down."""
        line = re.escape(" ".join((OPENVPN, *self._args)))
        found = self._system.run("pgrep", "-f", "-x", "--", line, ok=(0, 1)).stdout
        for pid in found.split():
            self._system.stop(int(pid), OPENVPN, SWITCH_SECONDS)

    def _state(self) -> str:
        try:
            with Management(self._state_dir) as management:
                return management.state().name
        except ProgramError:
            return ""

    def _guard_socket(self) -> None:
        """OpenVPN makes it for everybody; only the directory keeps others out."""
        path = self._state_dir / SOCKET
        with contextlib.suppress(FileNotFoundError):
            if stat.S_IMODE(os.lstat(path).st_mode) != 0o600:
                path.chmod(0o600)

    def _staged(self, name: str) -> Path:
        return self._state_dir / f"{name}.next"

    def _text(self, name: str) -> str:
        return read_private(self._state_dir / name) or ""
