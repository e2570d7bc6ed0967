# SPDX-License-Identifier: Apache-2.0
"""Programs of a lab: all run in its network namespace, daemons are found again by their ids."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from openstacklab.place import Place

POLL = 0.1
GRACE = 8.0
"""Seconds for an orderly end; data do not outlive the lab."""
TOOLS = Path(__file__).parents[1]


class LabError(Exception):
    """The lab cannot go on; the text ends with the log."""


class Processes:
    """Starts and ends them."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.bin = Path(sys.prefix, "bin")

    @property
    def environment(self) -> dict[str, str]:
        """Nothing of the caller's but where programs are."""
        etc = self.place.path("etc")
        return {
            "HOME": str(self.place.folder("home")),
            "TMPDIR": str(self.place.folder("tmp")),
            "PATH": f"{self.bin}:/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C.UTF-8",
            "PYTHONPATH": str(TOOLS),
            "PYTHONWARNINGS": "ignore",
            "OS_KEYSTONE_CONFIG_DIR": f"{etc}/keystone",
            "OS_KEYSTONE_CONFIG_FILES": "keystone.conf",
            "OS_NOVA_CONFIG_DIR": f"{etc}/nova",
            "OS_NEUTRON_CONFIG_DIR": f"{etc}/neutron",
            "OS_NEUTRON_CONFIG_FILES": "neutron.conf;ml2.ini",
            "OS_GLANCE_CONFIG_DIR": f"{etc}/glance",
            "OS_PLACEMENT_CONFIG_DIR": f"{etc}/placement",
            "OS_OCTAVIA_CONFIG_DIR": f"{etc}/octavia",
        }

    def inside(self, *words: str) -> list[str]:
        """A command line, in the lab's network namespace."""
        return ["ip", "netns", "exec", self.place.netns, *words]

    def run(self, *words: str, stdin: str | None = None) -> str:
        """Run a program there to its end.

        :raises LabError: when it fails.
        """
        done = subprocess.run(
            self.inside(*words),
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            said = (done.stdout + done.stderr)[-3000:]
            raise LabError(f"{' '.join(words)} failed ({done.returncode}):\n{said}")
        return done.stdout

    def start(self, name: str, *words: str, more: Mapping[str, str] | None = None) -> None:
        """Start a daemon there."""
        log = self.place.folder("log") / f"{name}.log"
        with log.open("ab") as output:
            made = subprocess.Popen(
                self.inside(*words),
                env={**self.environment, **(more or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd=self.place.directory,
            )
        (self.place.folder("run") / f"{name}.pid").write_text(str(made.pid))

    def serve(self, name: str, module: str, port: int, *arguments: str) -> None:
        """Start an API."""
        program = (sys.executable, "-m", "openstacklab.wsgi")
        self.start(name, *program, module, str(port), *arguments)

    def daemons(self) -> dict[str, int]:
        """The process ids of all daemons that were started, by name."""
        found = sorted(self.place.path("run").glob("*.pid"))
        return {path.stem: int(path.read_text()) for path in found}

    def stop(self) -> None:
        """End all that runs in the lab's network namespace: its daemons, and guests."""
        for how in (signal.SIGTERM, signal.SIGKILL):
            _signal(self._pids(), how)
            with contextlib.suppress(LabError):
                return until(lambda: not self._pids(), GRACE, "all processes have ended")
        raise LabError(f"processes do not end: {self._pids()}")

    def _pids(self) -> list[int]:
        words = ("ip", "netns", "pids", self.place.netns)
        told = subprocess.run(words, capture_output=True, text=True, check=False).stdout
        return [int(pid) for pid in told.split()]

    def alive(self, name: str) -> bool:
        """Whether a daemon is there."""
        try:
            os.kill(self.daemons()[name], 0)
        except (KeyError, ProcessLookupError):
            return False
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.daemons()[name], os.WNOHANG)
        state = Path(f"/proc/{self.daemons()[name]}/stat")
        return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"

    def answers(self, name: str, url: str, timeout: float = 120) -> None:
        """Wait until an API of ours answers.

        :raises LabError: when it does not, or its daemon has ended.
        """

        def there() -> bool:
            if not self.alive(name):
                raise LabError(f"{name} has ended:\n{self.log(name)}")
            return answered(url)

        until(there, timeout, f"{name} answers at {url}")

    def log(self, name: str) -> str:
        """The end of what a daemon said."""
        path = self.place.path("log", f"{name}.log")
        return path.read_text(errors="replace")[-3000:] if path.exists() else ""


def answered(url: str) -> bool:
    """Whether a server answers, with something else than that it is broken."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        opener.open(url, timeout=5).close()
    except urllib.error.HTTPError as exc:
        return exc.code < 500
    except OSError:
        return False
    return True


def accepts(address: str, port: int) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection((address, port), 1).close()
    except OSError:
        return False
    return True


def until(condition: Callable[[], bool], timeout: float, what: str) -> None:
    """Wait for something that tells nobody when it happens.

    :raises LabError: after timeout seconds.
    """
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise LabError(f"waited {timeout:g} s in vain until {what}")
        time.sleep(POLL)


def _signal(pids: Iterable[int], how: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, how)
