# SPDX-License-Identifier: Apache-2.0
"""The files by which a driver and its checker work together. Standard library only.

``wanted.json`` is the driver's to write, ``health.json`` the checker's; ``loaded.json`` and the
table are that one's who holds the lock. The checker holds ``checker`` while it lives, and reads
``wake``, a pipe, to hear that there is something new.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import json
import os
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from cnsmo.files import draft, write_file
from cnsmo.model.errors import DriverError
from cnsmo.services.loadbalancer.drivers import nfl_change, nfl_wanted
from cnsmo.services.loadbalancer.drivers.nfl_health import Verdict

WANTED, HEALTH, LOADED, LOCK = "wanted.json", "health.json", "loaded.json", "lock"
CHECKER, WAKE = "checker", "wake"
POLL_SECONDS = 0.01
LOOK_SECONDS = 1.0
"""Longer than anybody has the checker's lock to see whether it is free."""


@dataclasses.dataclass(frozen=True)
class Holder:
    """A checker that lives: its process id, in its own namespace, which release it is of, and the
    program that it is to others. ``silent``: seconds since its last sign of life."""

    pid: int
    release: str
    program: str
    silent: float = dataclasses.field(default=0.0, compare=False)


class Files:
    """Those of one unit."""

    def __init__(self, state_dir: Path, writer: str = "") -> None:
        """writer: tells the checker's drafts from the driver's."""
        self.dir = state_dir
        self._writer = writer

    def wanted(self) -> nfl_wanted.Wanted | None:
        """What the driver wants; None: nothing."""
        return nfl_wanted.parse(self._read(WANTED))

    def loaded(self) -> nfl_change.Loaded:
        """What is in the kernel."""
        return nfl_change.parse(self._read(LOADED))

    def health(self) -> dict[str, Verdict]:
        """What the checker found, by key of the server."""
        try:
            raw = json.loads(self._read(HEALTH) or "{}")
            return {str(key): Verdict(**each) for key, each in raw.items()}
        except (ValueError, TypeError, AttributeError):
            return {}

    def put_wanted(self, wanted: nfl_wanted.Wanted | None) -> None:
        """Want something else; None: nothing.

        :raises OSError: when it cannot be written; so the others.
        """
        if wanted is None:
            (self.dir / WANTED).unlink(missing_ok=True)
        else:
            write_file(self.dir / WANTED, wanted.dump(), self._writer)

    def put_loaded(self, loaded: nfl_change.Loaded) -> None:
        """Remember what is in the kernel."""
        self._replace(LOADED, loaded.dump())

    def put_health(self, verdicts: Mapping[str, Verdict]) -> None:
        """Tell what was found."""
        found = {key: dataclasses.asdict(it) for key, it in verdicts.items()}
        self._replace(HEALTH, json.dumps(found))

    def version(self) -> tuple[int, int] | None:
        """Changes whenever something else is wanted; None: nothing is."""
        try:
            found = (self.dir / WANTED).stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns

    @contextlib.contextmanager
    def lock(self, patience: float) -> Iterator[bool]:
        """Keep the other one out; whoever dies lets go. patience: seconds.

        :return: whether it was got in time.
        """
        with open(os.open(self.dir / LOCK, os.O_RDWR | os.O_CREAT, 0o600), "r+") as file:
            yield _locked(file.fileno(), patience)

    @contextlib.contextmanager
    def hold(self) -> Iterator[bool]:
        """Be the checker while this lasts; False: another one is."""
        flags = os.O_RDWR | os.O_CREAT
        with open(os.open(self.dir / CHECKER, flags, 0o600), "r+") as file:
            mine = _locked(file.fileno(), LOOK_SECONDS)
            if mine:
                file.truncate()
                file.write(f"{os.getpid()} {release()} {sys.executable}\n")
                file.flush()
                self.beat()
            yield mine

    def beat(self) -> None:
        """Give a sign of life as the checker: its file's time, by the monotonic clock."""
        now = time.monotonic_ns()
        with contextlib.suppress(OSError):  # then it is taken for hung, and replaced
            os.utime(self.dir / CHECKER, ns=(now, now))

    def holder(self) -> Holder | None:
        """The checker that lives."""
        try:
            with (self.dir / CHECKER).open() as file:
                if _locked(file.fileno(), 0, fcntl.LOCK_SH):
                    return None
                words = file.read().rstrip("\n").split(" ", 2)
                beaten = os.fstat(file.fileno()).st_mtime
        except FileNotFoundError:
            return None
        if len(words) != 3 or not words[0].isdecimal():
            return None  # it has the lock, and is about to write who it is
        return Holder(int(words[0]), words[1], words[2], time.monotonic() - beaten)

    def open_wake(self) -> int:
        """The pipe by which the checker is woken; a file descriptor, which never blocks."""
        path = self.dir / WAKE
        try:
            if not stat.S_ISFIFO(path.lstat().st_mode):
                path.unlink()
        except FileNotFoundError:
            pass
        with contextlib.suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        return os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def wake(self) -> None:
        """Wake the checker, if one lives."""
        with contextlib.suppress(OSError):  # nobody reads; or it is full of calls
            pipe = os.open(self.dir / WAKE, os.O_WRONLY | os.O_NONBLOCK)
            try:
                os.write(pipe, b"!")
            finally:
                os.close(pipe)

    def _read(self, name: str) -> str | None:
        try:
            return (self.dir / name).read_text(encoding="utf-8")
        except (FileNotFoundError, UnicodeDecodeError):
            return None
        except OSError as exc:
            raise DriverError(f"{self.dir / name} cannot be read: {exc}") from exc

    def _replace(self, name: str, text: str) -> None:
        """Write what need not outlast the kernel's state: nobody waits for the disk."""
        path = self.dir / name
        fresh = draft(path, self._writer)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with open(os.open(fresh, flags, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        fresh.replace(path)


@functools.cache
def release() -> str:
    """Of which release this code is: a checker of another one has to be replaced."""
    here = Path(__file__).parent
    mine = [here / "leave.py", *sorted(here.glob("nfl_*.py"))]
    texts = (path.read_bytes() for path in mine)
    return hashlib.sha256(b"\0".join(texts)).hexdigest()[:16]


def _locked(descriptor: int, patience: float, kind: int = fcntl.LOCK_EX) -> bool:
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(POLL_SECONDS)  # a lock that is let go says so to nobody who has a deadline
        else:
            return True
