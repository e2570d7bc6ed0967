# SPDX-License-Identifier: Apache-2.0
"""The haproxy of one unit: master and workers, started, reloaded without a gap, found again, ended.

The master keeps the file's path for life; at a reload it reads the file anew, starts another worker
that takes over the listening sockets, and lets the earlier one finish what it has. What is in the
file is what runs: a reload that fails gets the earlier text back.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from cnsmo.model.errors import DriverError, ProgramError
from cnsmo.services.base import System
from cnsmo.services.kit.daemon import Daemon
from cnsmo.services.kit.private_files import ensure_directory, read_private, write_private
from cnsmo.services.loadbalancer.drivers.hap_ports import require_free
from cnsmo.services.loadbalancer.drivers.hap_socket import MASTER, STATS, HapSocket
from cnsmo.services.loadbalancer.drivers.hap_stat import (
    Workers,
    read_fingerprint,
    read_workers,
)

HAPROXY = "haproxy"
JAIL = "jail"
"""Where the workers are locked up; nothing is in it but a socket for each other."""
CONFIG, NEXT, LAST = "haproxy.cfg", "haproxy.cfg.next", "haproxy.cfg.last"
STATE = "servers.state"
SETTLE_SECONDS = 30.0
"""How long a start or a reload may take: a port that is taken costs two, a large file a few."""
REACH_SECONDS = 5.0
"""How long a master that does not answer is waited for: the agent has more to do."""
CHECK_SECONDS = 60.0
LOOKS = 10
"""So often it has to seem gone until it is: a process that becomes itself anew has no name."""
_ALERT = re.compile(r"^\[ALERT\]\s+\(\d+\) : (?:config : )?(.*)$", re.MULTILINE)
_SAYS_NOTHING = re.compile(
    r"Error\(s\) found|Fatal errors|\[haproxy.main\(\)\] Some protocols|.* has no server available!"
)
_WRITTEN = re.compile(r'^  (description) "(cnsmo \S+ [0-9a-f]{32})"$', re.MULTILINE)


class HapProcess:
    """The daemon and its files in state_dir."""

    def __init__(self, system: System, state_dir: Path) -> None:
        self._system = system
        self._state_dir = state_dir
        self._args = (
            "-W", "-C", str(state_dir / JAIL), "-S", f"unix@../{MASTER},mode,600",
            "-f", f"../{CONFIG}",
        )  # fmt: skip
        self._daemon = _Master(system, state_dir, HAPROXY, *self._args)
        self._master = HapSocket(state_dir, MASTER)
        self._own = HapSocket(state_dir, STATS)

    @property
    def workers(self) -> Workers | None:
        """Its processes; None when it does not run, or does not answer."""
        found = self._look()
        if found is None and self.exists:
            with contextlib.suppress(ProgramError):  # somebody else's reload is under way
                found = self._await(lambda it: it.current is not None, REACH_SECONDS)
        return found if found and found.current else None

    @property
    def worker(self) -> HapSocket:
        """The one that takes new connections; by way of the master where its own socket is gone: it
        is never made anew.

        :raises ProgramError: when the master does not say which one that is.
        """
        if self._own.open:
            return self._own
        found = read_workers(self._master.ask("show proc"))
        if found is None or found.current is None:
            raise ProgramError("haproxy has no worker")
        return HapSocket(self._state_dir, MASTER, f"@!{found.current}")

    @property
    def exists(self) -> bool:
        """Whether there is such a process; while it becomes itself anew, it seems to be none."""
        for _ in range(LOOKS):
            if self._daemon.pid is not None:
                return True
            time.sleep(0.02)
        return False

    def knows(self, workers: Workers) -> bool:
        """Whether the process id of what runs is kept: whoever started it may have been killed
        before he had written it down."""
        return self._daemon.known == workers.master

    def adopt(self, workers: Workers) -> None:
        """Keep it."""
        self._daemon.adopt(workers.master)

    def reach(self) -> None:
        """See to it that a master that does not answer does so again: somebody deleted its socket,
        and it makes one when it reads its file anew.

        :raises DriverError: when it does not, and serves all the same: that goes on as it is.
        """
        pid = self._daemon.pid
        if pid is None:
            return
        with contextlib.suppress(ProgramError, OSError):
            self._serves_with(self._own.ask("show servers state"))
        self._system.run("kill", "-USR2", str(pid), ok=(0, 1))
        with contextlib.suppress(ProgramError):
            self._await(lambda it: it.current is not None, REACH_SECONDS)
            return
        with contextlib.suppress(ProgramError):
            self._own.ask("show info")
            raise DriverError(f"haproxy (process {pid}) serves, and its master does not answer")

    def _serves_with(self, shown: str) -> None:
        """The next worker knows who is down."""
        write_private(self._state_dir / STATE, f"{shown}\n")

    @property
    def text(self) -> str | None:
        """The file's."""
        return read_private(self._state_dir / CONFIG)

    def start(self, text: str, state: str, sockets: Iterable[tuple[str, str]]) -> None:
        """Start it with a configuration that it takes.

        :raises DriverError: when it refuses it, or cannot listen; it does not run then.
        """
        self.stop()
        self._prepare(text)
        require_free(self._system, sockets, frozenset())
        write_private(self._state_dir / STATE, state)
        self._accept()
        self._daemon.start()
        try:
            self._await(lambda it: it.current is not None)
        except ProgramError as exc:
            said = self._reasons(0)
            self.stop()
            raise DriverError(f"haproxy does not start: {said or exc}") from exc

    def reload(
        self,
        text: str,
        state: str,
        sockets: Iterable[tuple[str, str]],
        during: contextlib.AbstractContextManager[None],
    ) -> None:
        """Replace the configuration of the running one; no connection is lost.

        during: entered when everything is ready, and left when it is done, or has failed.

        :raises DriverError: when it refuses it, or cannot listen; the earlier one goes on.
        """
        before = self.workers
        if before is None:
            raise DriverError("haproxy does not run")
        self._prepare(text)
        require_free(self._system, sockets, before.all)
        write_private(self._state_dir / STATE, state)
        write_private(self._state_dir / LAST, self.text or "")
        self._accept()
        self._daemon.trim_log()
        known = self._daemon.log.stat().st_size
        with during:
            with contextlib.suppress(ProgramError):  # it answers, or is replaced by itself first
                self._master.ask("reload")
            after = self._await(
                lambda it: it.current != before.current or it.failed > before.failed
            )
            if after.current == before.current:
                self._take_back()
                said = self._reasons(known) or "it does not say why"
                raise DriverError(f"haproxy goes on as it was: {said}")
        (self._state_dir / LAST).unlink(missing_ok=True)

    def keep(self, text: str) -> None:
        """Put on the disk what already runs.

        :raises DriverError: when haproxy would refuse it; the earlier text stays then.
        """
        self._prepare(text)
        self._accept()
        self._daemon.trim_log()

    def recover(self, fingerprint: str | None) -> None:
        """After an agent died in the middle of a reload: the file is that of the one that runs.

        fingerprint: of what runs; None when nothing does.
        """
        last = read_private(self._state_dir / LAST)
        if last is None:
            return
        if fingerprint and _written(last) == fingerprint != _written(self.text or ""):
            self._take_back()
        (self._state_dir / LAST).unlink(missing_ok=True)

    def stop(self) -> None:
        """End it and what is left of it; fine when it does not run.

        Its workers end with their master, but one may have been started just before an agent died.
        """
        self._daemon.stop()
        args = re.escape(" ".join(self._args))
        line = f"{HAPROXY} (-sf [0-9 ]+ |-x [^ ]+ )*{args}"
        found = self._system.run("pgrep", "-f", "-x", "--", line, ok=(0, 1)).stdout
        for pid in found.split():
            self._system.stop(int(pid), HAPROXY)

    def ask_old(self, pid: int, command: str) -> str:
        """Ask a worker that only has connections left; "" when it is gone by now."""
        with contextlib.suppress(ProgramError):
            return self._master.ask(f"@!{int(pid)} {command}")
        return ""

    def _prepare(self, text: str) -> None:
        """Let haproxy itself judge a configuration, before anything else changes."""
        ensure_directory(self._state_dir)
        jail = self._state_dir / JAIL
        ensure_directory(jail)
        jail.chmod(0o711)  # a worker has to find its way to the socket of the next one
        if read_private(self._state_dir / STATE) is None:
            write_private(self._state_dir / STATE, "")
        write_private(self._state_dir / NEXT, text)
        done = self._system.run(
            HAPROXY, "-C", str(jail), "-c", "-f", f"../{NEXT}",
            timeout=CHECK_SECONDS, ok=range(256),
        )  # fmt: skip
        if done.code != 0:
            said = _alerts(done.stderr or done.stdout) or f"it ended with {done.code}"
            raise DriverError(f"haproxy refuses the configuration: {said}")

    def _accept(self) -> None:
        """The text that was checked becomes the file."""
        try:
            (self._state_dir / NEXT).replace(self._state_dir / CONFIG)
        except OSError as exc:
            raise DriverError(f"{CONFIG} cannot be replaced: {exc.strerror}") from exc

    def _take_back(self) -> None:
        """The file that haproxy runs with is in its place again."""
        last = read_private(self._state_dir / LAST)
        if last is not None:
            write_private(self._state_dir / CONFIG, last)
        (self._state_dir / LAST).unlink(missing_ok=True)

    def _look(self) -> Workers | None:
        try:
            return read_workers(self._master.ask("show proc"))
        except (ProgramError, OSError):
            return None

    def _await(self, there: Callable[[Workers], bool], seconds: float = SETTLE_SECONDS) -> Workers:
        """What its processes are once they are as asked for."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            found = self._look()
            if found is not None and there(found):
                return found
            if found is None and not self.exists:
                raise self._daemon.died()
            time.sleep(0.01)  # its socket is the only sign
        raise ProgramError(f"haproxy does not settle within {seconds:g} s")

    def _reasons(self, known: int) -> str:
        """What it complained of, in the part of its log that was not there before."""
        try:
            with self._daemon.log.open("rb") as file:
                file.seek(known)
                return _alerts(file.read(1 << 16).decode("utf-8", "replace"))
        except OSError:
            return ""


class _Master(Daemon):
    """While it reloads, the master has more words before those it was started with."""

    @property
    def pid(self) -> int | None:
        pid = self.known
        if pid is None:
            return None
        shown = self._system.run("cat", f"/proc/{pid}/cmdline", ok=(0, 1)).stdout
        words = shown.removesuffix("\0").split("\0")
        programs = {Path(word).name for word in words[: -len(self._args)]}
        same = tuple(words[-len(self._args) :]) == self._args and self._program in programs
        return pid if same else None


def _alerts(text: str) -> str:
    """The reasons among what haproxy says."""
    found = [line for line in _ALERT.findall(text) if not _SAYS_NOTHING.match(line)]
    return " / ".join(found).replace(NEXT, CONFIG)[:500]


def _written(text: str) -> str | None:
    """The fingerprint that stands in a file."""
    found = _WRITTEN.search(text)
    return read_fingerprint(f"{found[1]}: {found[2]}") if found else None
