# SPDX-License-Identifier: Apache-2.0
"""What all beds have in common: a directory, ports, one life cycle."""

import abc
import os
import pwd
import secrets
import shutil
import signal
import tempfile
import time
import weakref
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from tests.beds.ports import PortLease
from tests.beds.process import ServerProcess, tail, wait_until

# Memory, where there is plenty: PostgreSQL makes 900 files for a database (0.03 s instead of 0.25).
MEMORY, DISK = Path("/dev/shm"), Path("/tmp")
PLENTY = 2 * 1024**3


class BedError(Exception):
    """A server did not do what it was asked to; the message ends with its log."""


class MissingPackage(BedError):
    """A program that the bed needs is not on this machine; the message names its package."""


class Bed(abc.ABC):
    """A server of our own. Stopped and removed by `close()`, or by the end of this process.

    `stop`, `start`, `restart`, `kill` keep the data and the port. `start` returns when the server
    answers, `stop` and `kill` when all its processes are gone.
    """

    package: ClassVar[str]
    """The Debian package that has the server."""
    account: ClassVar[str | None] = None
    """Account to run as when we are root; None: as root."""
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    """For an orderly shutdown."""
    keep_logs: ClassVar[Path | None] = None
    """Directory where a bed leaves its logs when it is removed; None: nowhere."""
    end_signal: ClassVar[signal.Signals] = signal.SIGKILL
    """For the end, when the data do not matter any more."""

    def __init__(self) -> None:
        """Raises MissingPackage."""
        self._locate()
        name = type(self).__name__.removesuffix("Bed").lower()
        self.password = secrets.token_hex(16)
        self.user = self.account if os.geteuid() == 0 else None
        self._lease = PortLease()
        self.port = self._lease.port
        self.directory = Path(tempfile.mkdtemp(prefix=f"cnsmo-{name}-", dir=base_directory()))
        self._remove = weakref.finalize(self, _remove, self.directory, os.getpid())
        self.log = self.directory / f"{name}.log"
        if self.user:
            shutil.chown(self.directory, self.user, pwd.getpwnam(self.user).pw_gid)
        self._process: ServerProcess | None = None
        self._prepared = False
        self.paused = False

    @property
    def alive(self) -> bool:
        """Whether the server's process is there; a paused one is."""
        return self._process is not None and self._process.alive

    @property
    def pids(self) -> list[int]:
        """All processes of the server."""
        return self._process.family if self._process else []

    def start(self, timeout: float = 60) -> None:
        """Start the server, the first time with fresh data; nothing when it is already there.

        Raises BedError when it does not answer within `timeout` seconds.
        """
        if self.alive:
            return
        if not self._prepared:
            self._prepare(timeout)
            self._prepared = True
        self._process = self._spawn(self._command())
        try:
            wait_until(self._answers_or_died, timeout, f"{self.package} answers")
        except TimeoutError as error:
            self.kill()
            raise BedError(f"{error}\n{tail(self.log)}") from error
        if not self.alive:
            raise BedError(f"{self.package} ended while it started:\n{tail(self.log)}")

    def stop(self, timeout: float = 30) -> None:
        """Shut the server down in an orderly way; killed when that takes over `timeout` s."""
        if self._process:
            self.resume()
            self._process.stop(self.stop_signal, timeout)

    def kill(self) -> None:
        """kill -9 of all its processes at once."""
        if self._process:
            self._process.kill()
        self.paused = False

    def restart(self) -> None:
        """Orderly stop, then start."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections are accepted by the kernel and never answered."""
        if self._process:
            self._process.pause()
            self.paused = True

    def resume(self) -> None:
        """The end of `pause`. Nothing when it is not paused."""
        if self._process and self.paused:
            self._process.resume()
        self.paused = False

    def recover(self) -> None:
        """Make it running and answering, whatever a test has done to it."""
        self.resume()
        self.start()

    def close(self) -> None:
        """End it at once and remove its directory and all data. May be called again."""
        self.resume()
        if self._process:
            self._process.stop(self.end_signal, 10)
        self._leave_logs()
        self._remove()
        self._lease.release()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @abc.abstractmethod
    def _locate(self) -> None:
        """Find the programs. Raises MissingPackage."""

    @abc.abstractmethod
    def _prepare(self, timeout: float) -> None:
        """Make the data directory, once."""

    @abc.abstractmethod
    def _command(self) -> list[str]:
        """The server's command line; it must stay in the foreground."""

    @abc.abstractmethod
    def _answers(self) -> bool:
        """Whether a client is served."""

    def _env(self) -> dict[str, str]:
        """The server's whole environment: nothing of the caller's PG*, MYSQL*, RABBITMQ_*."""
        place = str(self.directory)
        # TMPDIR, because a MariaDB that starts removes the temporary tables of all others in /tmp.
        return {"PATH": os.defpath, "HOME": place, "TMPDIR": place, "LANG": "C.UTF-8"}

    def _leave_logs(self) -> None:
        if self.keep_logs is not None:
            for log in self.directory.glob("*.log"):
                kept = self.keep_logs / self.directory.name / log.name
                kept.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(log, kept)

    def _spawn(self, command: list[str]) -> ServerProcess:
        return ServerProcess(
            command,
            log=self.log,
            env=self._env(),
            user=self.user,
            farewell=self.end_signal,
            directory=self.directory,
        )

    def _run(self, command: list[str], timeout: float) -> None:
        """Run a program that ends by itself. Raises BedError when it fails."""
        started = time.monotonic()
        process = self._spawn(command)
        if code := process.wait(timeout):
            took = time.monotonic() - started
            raise BedError(f"{command[0]} failed ({code}) after {took:.1f} s:\n{tail(self.log)}")

    def _answers_or_died(self) -> bool:
        return not self.alive or self._answers()


def base_directory() -> Path:
    """Where beds live. Not $TMPDIR: a Unix socket's path has 107 bytes, and the server's account
    must reach the place (pytest's own temporary directories are closed to it).
    """
    usable = MEMORY.is_dir() and os.access(MEMORY, os.W_OK | os.X_OK)
    return MEMORY if usable and shutil.disk_usage(MEMORY).free >= PLENTY else DISK


def _remove(directory: Path, owner: int) -> None:
    # A fork of the owner ends without taking the directory with it.
    if os.getpid() == owner:
        shutil.rmtree(directory, ignore_errors=True)


def find_program(package: str, *candidates: Path | str | None) -> Path:
    """The first candidate that is there. Raises MissingPackage, naming `package`."""
    for candidate in candidates:
        if candidate and os.access(candidate, os.X_OK):
            return Path(candidate)
    names = ", ".join(str(candidate) for candidate in candidates if candidate)
    raise MissingPackage(f"package {package} is not installed (looked for: {names or package})")
