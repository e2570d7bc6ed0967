# SPDX-License-Identifier: Apache-2.0
"""The keepalived of one unit: which of the carriers holds the VIP.

It outlives the agent, and looks after the haproxy of its own carrier by itself: one whose haproxy
does not answer gives the VIP up, whether an agent is there to see it or not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

from cnsmo.model.errors import DriverError, DriverUnavailable, ProgramError
from cnsmo.services.base import System
from cnsmo.services.kit.daemon import Daemon
from cnsmo.services.kit.private_files import read_private, write_private
from cnsmo.services.loadbalancer.desired import Vip
from cnsmo.services.loadbalancer.drivers import hap_alive
from cnsmo.services.loadbalancer.drivers.vrrp_render import (
    ALIVE,
    TUNNEL_SECONDS,
    Place,
    holds,
    place_of,
    render_vip,
)

KEEPALIVED = "keepalived"
CONFIG, NEXT, LOADED = "keepalived.conf", "keepalived.conf.next", "keepalived.loaded"
PARENT, CHILD = "vrrp-parent.pid", "vrrp.pid"
START_SECONDS = 10.0
ELECTION_SECONDS = TUNNEL_SECONDS + 5.0
"""How long carriers may take to find out who holds the VIP, after one of them has begun."""
LOG_BYTES = 1 << 20
PYTHON = os.path.realpath(sys.executable)
"""Of the system's own folders: keepalived runs nothing that others than root could replace."""
_SCRIPT = Path(hap_alive.__file__).read_text(encoding="utf-8")


@dataclasses.dataclass(frozen=True)
class Standing:
    """How the VIP stands on this carrier. ``again``: that may be about to change."""

    drift: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    holds: bool = False
    again: bool = False


class Vrrp:
    """The daemon and its files in state_dir."""

    def __init__(self, system: System, state_dir: Path) -> None:
        self._system = system
        self._state_dir = state_dir
        self._args = (
            "--dont-fork", "--vrrp", "--log-console", "--no-syslog", "--dont-respawn",
            "--use-file", str(state_dir / CONFIG),
            "--pid", str(state_dir / PARENT), "--vrrp_pid", str(state_dir / CHILD),
        )  # fmt: skip
        self._daemon = Daemon(system, state_dir, KEEPALIVED, *self._args)
        self._begun = float("-inf")

    def converge(self, vip: Vip | None, watches: bool) -> list[str]:
        """Make it run for a VIP; None: it shall not run.

        watches: see render_vip.

        :return: what was changed, one line each.
        :raises DriverError: when it refuses its configuration; the earlier one goes on.
        """
        place = place_of(vip, self._links()) if vip else ""
        if vip is None or isinstance(place, str):
            return self._end()
        wanted = self._text_of(vip, place, watches)
        if not self._system.has(KEEPALIVED):
            raise DriverUnavailable(f"{KEEPALIVED} is missing: install the package keepalived")
        running = self._daemon.pid
        if running and self._in_force(wanted):
            self._trim_log()
            return []
        self._prepare(wanted)
        self._begun = time.monotonic()
        if running is None:
            self._start(wanted)
            return ["keepalived: started"]
        self._system.run("kill", "-HUP", str(running))
        write_private(self._state_dir / LOADED, wanted)
        return ["keepalived: reloaded"]

    def observe(self, vip: Vip | None, watches: bool) -> Standing:
        """How things stand; changes nothing."""
        if vip is None and self._text(CONFIG) is None:
            return Standing()
        links, running = self._links(), self._daemon.pid is not None
        place = place_of(vip, links) if vip else ""
        if vip is None or isinstance(place, str):
            drift = ("keepalived runs, and has no VIP to look after",) if running else ()
            return Standing(drift, (place,) if isinstance(place, str) and place else ())
        wanted = self._text_of(vip, place, watches)
        drift = () if running else ("keepalived does not run",)
        if running and not self._in_force(wanted):
            drift = ("keepalived runs with another configuration",)
        again = time.monotonic() - self._begun < ELECTION_SECONDS
        return Standing(drift, (), holds(vip, links), again)

    def stop(self) -> None:
        """End it; it lets go of the VIP and tells the others.

        Also one that an agent started and then died, before it wrote down which process it is.
        """
        self._daemon.stop()
        line = re.escape(" ".join((KEEPALIVED, *self._args)))
        found = self._system.run("pgrep", "-f", "-x", "--", line, ok=(0, 1)).stdout
        for pid in found.split():
            self._system.stop(int(pid), KEEPALIVED)

    def _text_of(self, vip: Vip, place: Place, watches: bool) -> str:
        return render_vip(vip, place, str(self._state_dir), PYTHON if watches else "")

    def _in_force(self, wanted: str) -> bool:
        same = self._text(CONFIG) == wanted == self._text(LOADED)
        return same and self._text(ALIVE) == _SCRIPT

    def _links(self) -> list[dict[str, Any]]:
        return json.loads(self._system.run("ip", "-j", "address", "show").stdout or "[]")  # type: ignore[no-any-return]

    def _prepare(self, wanted: str) -> None:
        """Let keepalived itself judge a configuration before it becomes the file."""
        write_private(self._state_dir / ALIVE, _SCRIPT)
        path = self._state_dir / NEXT
        write_private(path, wanted)
        done = self._system.run(KEEPALIVED, "--config-test", "--use-file", str(path), ok=range(256))
        if done.code != 0:
            said = " / ".join((done.stderr or done.stdout).strip().splitlines())[-500:]
            raise DriverError(f"keepalived refuses the configuration: {said}")
        path.replace(self._state_dir / CONFIG)

    def _start(self, wanted: str) -> None:
        self.stop()
        (self._state_dir / CHILD).unlink(missing_ok=True)
        self._daemon.start()
        until = time.monotonic() + START_SECONDS
        while not (self._state_dir / CHILD).exists():
            if self._daemon.pid is None:
                raise self._daemon.died()
            if time.monotonic() > until:
                raise ProgramError(f"keepalived does not get ready: {self._daemon.last_words()}")
            time.sleep(0.01)  # this file is the only sign
        write_private(self._state_dir / LOADED, wanted)

    def _end(self) -> list[str]:
        if self._text(CONFIG) is None:
            return []
        self.stop()
        for name in (CONFIG, NEXT, LOADED, ALIVE, PARENT, CHILD, self._daemon.log.name):
            (self._state_dir / name).unlink(missing_ok=True)
        return ["keepalived: stopped"]

    def _trim_log(self) -> None:
        """Its blocks count: keepalived goes on writing where it was."""
        with contextlib.suppress(FileNotFoundError):
            if self._daemon.log.stat().st_blocks * 512 > LOG_BYTES:
                os.truncate(self._daemon.log, 0)

    def _text(self, name: str) -> str | None:
        return read_private(self._state_dir / name)
