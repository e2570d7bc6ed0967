# SPDX-License-Identifier: Apache-2.0
"""One daemon of a driver's own, that outlives the agent: started, found again, ended.

It runs in the foreground as far as it is concerned (a daemon that forks away would be lost to us),
in a session of its own; its process id is kept in a file for the next agent process.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from cnsmo.model.errors import ProgramError
from cnsmo.services.base import System
from cnsmo.services.kit.private_files import ensure_directory, read_private, write_private

LOG_BYTES = 1 << 20
"""The log is emptied when it is larger: strangers can make it grow, and every server that goes
down is a line."""


class Daemon:
    """A program with exactly these arguments; pid and log file live in state_dir."""

    def __init__(self, system: System, state_dir: Path, program: str, *args: str) -> None:
        self._system = system
        self._program = program
        self._args = args
        self._pid_file = state_dir / f"{program}.pid"
        self.log = state_dir / f"{program}.log"

    @property
    def known(self) -> int | None:
        """The process id in the file, whatever runs by now."""
        text = read_private(self._pid_file) or ""
        return int(text) if text.strip().isdecimal() else None

    @property
    def pid(self) -> int | None:
        """Process id of the running daemon; None when it does not run.

        The whole command line has to be the same: after a reboot the number in the file may
        belong to anything, also to the same program on another unit's behalf. In a namespace there
        is a moment when it is still nsenter(1) that will become it.
        """
        pid = self.known
        if pid is None:
            return None
        shown = self._system.run("cat", f"/proc/{pid}/cmdline", ok=(0, 1)).stdout
        words = shown.removesuffix("\0").split("\0")[-len(self._args) - 1 :]
        same = Path(words[0]).name == self._program and tuple(words[1:]) == self._args
        return pid if same else None

    def start(self) -> int:
        """Start it, unless it runs.

        :return: its process id.
        :raises ProgramError: when the program is missing.
        """
        running = self.pid
        if running is not None:
            return running
        ensure_directory(self.log.parent)
        pid = self._system.start(self._program, *self._args, log=self.log)
        try:
            write_private(self._pid_file, f"{pid}\n")
        except BaseException:
            self._system.stop(pid, self._program)  # nobody would ever find it again
            raise
        return pid

    def adopt(self, pid: int) -> None:
        """Take a process for it that was found by other means than the file."""
        write_private(self._pid_file, f"{pid}\n")

    def stop(self, timeout: float = 5.0) -> None:
        """End it, by force after timeout seconds; fine when it does not run.

        :raises ProgramError: when it does not end.
        """
        pid = self.pid
        if pid is not None:
            self._system.stop(pid, self._program, timeout)
        self._pid_file.unlink(missing_ok=True)

    def trim_log(self) -> None:
        """Empty the log when it is larger than it should be. Its blocks count: a daemon that does
        not append goes on writing where it was, whatever is cut off before."""
        with contextlib.suppress(FileNotFoundError):
            if self.log.stat().st_blocks * 512 > LOG_BYTES:
                os.truncate(self.log, 0)

    def last_words(self) -> str:
        """The end of its log, for the error message that says why it does not run."""
        try:
            lines = [line for line in self.log.read_text(errors="replace").splitlines() if line]
        except OSError:
            return ""
        return " / ".join(lines[-3:])[-300:]

    def died(self) -> ProgramError:
        """The error to raise when it ended by itself."""
        said = self.last_words() or "it said nothing"
        return ProgramError(f"{self._program} {' '.join(self._args)} ended at once: {said}")
