# SPDX-License-Identifier: Apache-2.0
"""The choke point: every external program that CNSMO runs is run here.

A list of arguments, a time limit, a namespace to run in; never a shell, never an inherited
environment. What a secret needs goes through stdin or a 0600 file, not through the arguments.
"""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from oslo_log import log

from cnsmo.agent.nft_client import NftClient
from cnsmo.model.errors import ProgramError
from cnsmo.services.base import Completed

LOG = log.getLogger(__name__)

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C",
}
"""Programs see nothing else; C so that what is parsed is not translated."""

SPAWN_SECONDS = 5.0
"""How long nsenter may take to fork the program into the namespace."""


class LocalSystem:
    """Runs programs on this host, or in a namespace that ``enter`` leads into.

    ``enter`` is a command prefix: empty for the host itself, or e.g.
    ``("nsenter", "-t", "42", "-n", "-m", "-p", "-u", "-i", "--")`` for a VM of the lab.
    """

    def __init__(
        self,
        enter: Sequence[str] = (),
        ways: Sequence[tuple[str, int]] = (),
        stays: bool = False,
    ) -> None:
        """stays: for who runs nft(8) over and over: a process is kept for it."""
        self.enter = tuple(enter)
        self.ways = tuple(ways)
        self._nft = NftClient(functools.partial(_helper, self.enter)) if stays else None
        self._children: list[subprocess.Popen[bytes]] = []

    def run(
        self,
        *args: str,
        stdin: str | None = None,
        timeout: float = 10.0,
        ok: Sequence[int] = (0,),
    ) -> Completed:
        """Run a program to its end; see ``services.base.System``."""
        done = self._nft.run(args, stdin, timeout) if self._nft else None
        code, out, errors = done or self._run(args, stdin, timeout)
        if code not in ok:
            said = (errors or out).strip()[-500:]
            raise ProgramError(f"{_shown(args)} ended with {code}: {said}")
        return Completed(tuple(args), code, out, errors)

    def _run(self, args: Sequence[str], stdin: str | None, timeout: float) -> tuple[int, str, str]:
        """Exit code, output, errors.

        :raises ProgramError: when it takes too long, or cannot be run.
        """
        try:
            done = subprocess.run(
                [*self.enter, *args],
                input=stdin,
                stdin=subprocess.DEVNULL if stdin is None else None,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                env=ENVIRONMENT,
                check=False,
            )
        except subprocess.TimeoutExpired as exc:
            raise ProgramError(f"{_shown(args)} did not end within {timeout:g} s") from exc
        except OSError as exc:
            raise ProgramError(f"{_shown(args)} cannot be run: {exc.strerror}") from exc
        return done.returncode, done.stdout, done.stderr

    def has(self, program: str) -> bool:
        """Whether the program is on the fixed PATH."""
        return any(
            os.access(Path(folder, program), os.X_OK) for folder in ENVIRONMENT["PATH"].split(":")
        )

    def start(self, *args: str, log: Path) -> int:
        """Start a daemon in a session of its own; it keeps no pipe and no terminal of ours."""
        self._reap()
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as sink:
            try:
                child = subprocess.Popen(
                    [*self.enter, *args],
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=sink,
                    start_new_session=True,
                    env=ENVIRONMENT,
                    cwd="/",
                )
            except OSError as exc:
                raise ProgramError(f"{_shown(args)} cannot be run: {exc.strerror}") from exc
        self._children.append(child)
        LOG.info("started %s (process %d)", args[0], child.pid)
        return _inner_pid(child, args[0]) if self.enter else _outer_pid(child)

    def alive(self, pid: int, program: str) -> bool:
        """Whether that process runs that program; guards against reused process ids."""
        self._reap()
        shown = self.run("cat", f"/proc/{pid}/cmdline", ok=(0, 1)).stdout
        return _runs(shown, program)

    def stop(self, pid: int, program: str, timeout: float = 5.0) -> None:
        """End a daemon, by force after timeout seconds; returns when it is gone."""
        for signal in ("TERM", "KILL"):
            if not self.alive(pid, program):
                return
            self.run("kill", f"-{signal}", str(pid), ok=(0, 1))
            self._await_end(pid, timeout)
        if self.alive(pid, program):
            raise ProgramError(f"{program} (process {pid}) does not end")

    def _await_end(self, pid: int, timeout: float) -> None:
        """Wait for the end of a process, at most so many seconds."""
        for child in self._children:
            if (
                child.pid == pid and not self.enter
            ):  # a zombie until we ask, which tail would wait for
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(timeout)
                return
        self.run(
            "timeout", f"{timeout:g}", "tail", f"--pid={pid}", "-s", "0.02", "-f", "/dev/null",
            timeout=timeout + 5, ok=(0, 124),
        )  # fmt: skip

    def _reap(self) -> None:
        self._children = [child for child in self._children if child.poll() is None]


def _helper(enter: tuple[str, ...], script: str) -> subprocess.Popen[bytes]:
    """Start a script of ours for as long as we live."""
    return subprocess.Popen(
        [*enter, sys.executable, "-I", "-S", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for us: its input ends when we do
        env=ENVIRONMENT,
        cwd="/",
    )


def _outer_pid(child: subprocess.Popen[bytes]) -> int:
    """Process id of what we started, once /proc shows its command line.

    The kernel says that a program was executed a moment before it shows which.
    """
    until = time.monotonic() + SPAWN_SECONDS
    shown = Path(f"/proc/{child.pid}/cmdline")
    while time.monotonic() < until and child.poll() is None and not _lines(shown):
        time.sleep(0.001)
    return child.pid


def _inner_pid(child: subprocess.Popen[bytes], program: str) -> int:
    """Process id, inside its namespace, of what nsenter forked, once it runs the program."""
    until = time.monotonic() + SPAWN_SECONDS
    children = Path(f"/proc/{child.pid}/task/{child.pid}/children")
    while time.monotonic() < until and child.poll() is None:
        for outer in _words(children):
            if not _runs("\n".join(_lines(Path(f"/proc/{outer}/cmdline"))), program):
                continue
            for line in _lines(Path(f"/proc/{outer}/status")):
                if line.startswith("NSpid:"):
                    return int(line.split()[-1])
        time.sleep(0.002)  # the kernel has no event for "has forked and executed" without ptrace
    raise ProgramError(f"{program} did not start in its namespace")


def _runs(cmdline: str, program: str) -> bool:
    """Whether a process with that command line, as /proc shows it, runs the program."""
    return bool(cmdline) and Path(cmdline.split("\0")[0]).name == Path(program).name


def _words(path: Path) -> list[str]:
    return [word for line in _lines(path) for word in line.split()]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _shown(args: Sequence[str]) -> str:
    return " ".join(args)[:200]
