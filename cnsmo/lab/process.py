# SPDX-License-Identifier: Apache-2.0
"""A process that was ours: known again by its start time, never confused with a successor.

A process id alone is reused; with the start time (proc(5), field 22) and the machine's boot it is
not. Signals go through a pidfd, so that nothing can slip in between the check and the signal.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import signal
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from cnsmo.lab.errors import LabError

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
DEAD = "ZX"
KILL_SECONDS = 10.0
"""How long the kernel may take to end what was killed; a VM dies within milliseconds."""


@dataclasses.dataclass(frozen=True)
class Process:
    """One process of this boot. ``started``: clock ticks after it."""

    pid: int
    started: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> Process:
        """The process that has this id now.

        :raises ProcessLookupError: when there is none, or only its corpse.
        """
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError) as exc:
            raise ProcessLookupError(pid) from exc
        fields = stat.rpartition(")")[2].split()
        if fields[0] in DEAD:
            raise ProcessLookupError(pid)
        return cls(pid, int(fields[19]), BOOT_ID.read_text().strip())

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        try:
            return Process.of(self.pid) == self
        except ProcessLookupError:
            return False

    @contextlib.contextmanager
    def opened(self) -> Iterator[int | None]:
        """A pidfd of it, or None when it is gone."""
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            yield None
            return
        try:
            yield fd if self.alive else None
        finally:
            os.close(fd)

    def signal_kill(self) -> None:
        """SIGKILL, without waiting; nothing when it is gone."""
        with self.opened() as fd:
            if fd is not None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(fd, signal.SIGKILL)

    def kill(self, timeout: float = KILL_SECONDS) -> None:
        """SIGKILL, and wait until it is gone; at once when it is gone already.

        :raises LabError: when it is still there after timeout seconds.
        """
        self.signal_kill()
        if not self.wait(timeout):
            raise LabError(
                f"process {self.pid} does not end though killed: it hangs in the kernel; "
                f"see /proc/{self.pid}/stack"
            )

    def wait(self, timeout: float = KILL_SECONDS) -> bool:
        """Wait until it is gone, timeout seconds at most; whether it is."""
        with self.opened() as fd:
            gone = fd is None or _readable(fd, timeout)
        if gone:
            self.reap()
        return gone

    def reap(self) -> None:
        """Take its corpse away, when it was a child of ours and is dead."""
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)


def child_of(pid: int) -> Process:
    """The only child of a process that forks once, as unshare does.

    :raises ProcessLookupError: when it has none.
    """
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError) as exc:
        raise ProcessLookupError(pid) from exc
    if not children:
        raise ProcessLookupError(pid)
    return Process.of(int(children[0]))


def kill_all_within(namespaces: Collection[int], timeout: float = KILL_SECONDS) -> None:
    """End every process in these network namespaces (inode numbers), whoever started it.

    :raises LabError: when some are still there after timeout seconds, or we are one of them.
    """
    if _namespace(os.getpid()) in namespaces:
        raise LabError("this process runs inside the lab that it shall take down: leave it first")
    until = time.monotonic() + timeout
    while found := _within(namespaces):  # again: one may have forked meanwhile
        if time.monotonic() > until:
            names = ", ".join(str(process.pid) for process in found)
            raise LabError(f"processes {names} do not end though killed, and hold the lab")
        for process in found:
            process.signal_kill()
        for process in found:
            process.wait(max(0.0, until - time.monotonic()))


def _within(namespaces: Collection[int]) -> list[Process]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal() and _namespace(int(entry)) in namespaces:
            with contextlib.suppress(ProcessLookupError):
                process = Process.of(int(entry))
                if _namespace(process.pid) in namespaces:  # still, not one with the same number
                    found.append(process)
    return found


def _namespace(pid: int) -> int | None:
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino
    except OSError:  # gone, a corpse, or another account's
        return None


def _readable(fd: int, timeout: float) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(timeout * 1000))
