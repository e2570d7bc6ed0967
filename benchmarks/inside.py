# SPDX-License-Identifier: Apache-2.0
"""A program inside a VM, as a child of ours: started, watched, ended."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import IO, Self

from cnsmo.agent.system import ENVIRONMENT, LocalSystem
from cnsmo.lab.vm import Vm

SPAWN_SECONDS = 5.0
END_SECONDS = 5.0


class Inside:
    """Runs until it ends, or its VM does, or `stop` is called."""

    def __init__(
        self,
        vm: Vm | LocalSystem,
        *args: str,
        log: Path,
        stdin: int | None = None,
        stdout: int | None = None,
    ) -> None:
        """stdin, stdout: as for Popen; left out, nothing and the log."""
        with open(log, "ab") as sink:
            self._nsenter = subprocess.Popen(
                [*vm.enter, *args],
                stdin=stdin or subprocess.DEVNULL,
                stdout=stdout or sink,
                stderr=sink,
                env=ENVIRONMENT,
                cwd="/",
                start_new_session=True,
                text=True,
                bufsize=1,
            )

    @property
    def pid(self) -> int:
        """The process id, from outside, of the program: nsenter's only child."""
        children = Path(f"/proc/{self._nsenter.pid}/task/{self._nsenter.pid}/children")
        until = time.monotonic() + SPAWN_SECONDS
        while time.monotonic() < until and self._nsenter.poll() is None:
            found = children.read_text().split()
            if found:
                return int(found[0])
            time.sleep(0.002)
        raise ProcessLookupError(f"{self._nsenter.args!r} ended")

    @property
    def pipes(self) -> tuple[IO[str], IO[str]]:
        """Its input and output."""
        assert self._nsenter.stdin is not None
        assert self._nsenter.stdout is not None
        return self._nsenter.stdin, self._nsenter.stdout

    def wait(self, timeout: float) -> int:
        """Its exit code. Raises subprocess.TimeoutExpired."""
        return self._nsenter.wait(timeout)

    def stop(self) -> None:
        """End it, by force when it does not end by itself; fine when it has ended."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._nsenter.poll() is not None:
                break
            try:
                os.kill(self.pid, number)
                self._nsenter.wait(END_SECONDS)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
        self._nsenter.kill()
        self._nsenter.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()
