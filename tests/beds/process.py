# SPDX-License-Identifier: Apache-2.0
"""One server process under its warden: start, signal, freeze, thaw, kill."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.beds import warden

WARDEN = Path(warden.__file__)
POLL_SECONDS = 0.02


class ServerProcess:
    """A running command with all its children. It ends when this Python process ends."""

    def __init__(
        self,
        command: list[str],
        *,
        log: Path,
        env: Mapping[str, str],
        user: str | None = None,
        farewell: signal.Signals = signal.SIGKILL,
        directory: Path | None = None,
    ) -> None:
        """Start `command` as `user`; its output is appended to `log`.

        Should this process die, the warden ends the server with `farewell` and then removes
        `directory`.
        Raises OSError when the command cannot be run.
        """
        reader, writer = os.pipe()
        order = warden.Order(
            parent=os.getpid(),
            command=command,
            ready=writer,
            user=user,
            farewell=farewell,
            directory=str(directory) if directory else None,
        )
        with open(log, "ab") as output, open(reader, "rb") as ready:
            self._warden = subprocess.Popen(
                [sys.executable, "-I", "-S", str(WARDEN), order.dump()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(env),
                cwd=log.parent,
                pass_fds=[writer],
                start_new_session=True,
            )
            os.close(writer)
            answer = ready.read()
        if not answer:
            self._warden.wait()
            raise OSError(f"{command[0]} did not start, see {log}:\n{tail(log)}")
        self.pid = int(answer)
        """Process id of the server itself."""

    @property
    def alive(self) -> bool:
        """Whether the server, or its warden still clearing up after it, is there."""
        return self._warden.poll() is None

    @property
    def family(self) -> list[int]:
        """Process ids of the server and all its children."""
        return warden.descendants(self._warden.pid) if self.alive else []

    def wait(self, timeout: float) -> int:
        """Wait at most `timeout` seconds for the end of the whole family; returns the exit code.

        Raises subprocess.TimeoutExpired.
        """
        return self._warden.wait(timeout)

    def stop(self, how: signal.Signals, timeout: float) -> None:
        """Ask the server to end with signal `how`; kill it after `timeout` seconds."""
        if how == signal.SIGKILL:
            self.kill()
        elif self.alive:
            self._warden.send_signal(how)
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """kill -9 the server and all its children at once, and wait until they are gone."""
        self._signal(signal.SIGKILL)
        self.wait(30)

    def pause(self) -> None:
        """Freeze the server and all its children: ports stay open, nobody answers."""
        wait_until(self._frozen, 10, "the server is stopped")

    def resume(self) -> None:
        """Let a frozen server go on."""
        self._signal(signal.SIGCONT)

    def _frozen(self) -> bool:
        # Again until a pass finds all of them stopped: one may have forked in between.
        if all(warden.is_stopped(pid) for pid in self.family):
            return True
        self._signal(signal.SIGSTOP)
        return False

    def _signal(self, signum: signal.Signals) -> None:
        for pid in self.family:
            try:
                os.kill(pid, signum)
            except ProcessLookupError:
                continue


def wait_until(condition: Callable[[], bool], timeout: float, what: str) -> None:
    """Poll `condition` until it holds. Raises TimeoutError, naming `what`, after `timeout` s."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout:g} s in vain until {what}")
        time.sleep(POLL_SECONDS)


def tail(log: Path, lines: int = 40) -> str:
    """The last lines of a log, for an error message."""
    if not log.exists():
        return "(no log)"
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
