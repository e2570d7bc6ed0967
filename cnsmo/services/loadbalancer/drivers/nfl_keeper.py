# SPDX-License-Identifier: Apache-2.0
"""The checker as the driver sees it: started, found again, replaced, ended.

That it lives is said by the lock that it holds, not by a process id in a file: so it is found even
if the agent was killed while it started it, and there never are two. That it is at work is said by
its signs of life.
"""

from __future__ import annotations

import sys
import time

from cnsmo.model.errors import DriverError
from cnsmo.services.base import System
from cnsmo.services.kit.private_files import read_private
from cnsmo.services.loadbalancer.drivers import nfl_checker
from cnsmo.services.loadbalancer.drivers.nfl_files import POLL_SECONDS, Files, Holder, release

START_SECONDS = 10.0
LOG = "checker.log"
HANGS = "the checker hangs"
SILENT_SECONDS = 10.0
"""One that works gives a sign of life every second; a large table may keep it for a few."""


class Keeper:
    """Sees to it that one checker runs, and that it is of this release."""

    def __init__(self, system: System, files: Files) -> None:
        self._system = system
        self._files = files

    @property
    def drift(self) -> list[str]:
        """What is not as it should be."""
        holder = self._files.holder()
        if holder is None:
            return ["the checker does not run"]
        if holder.release != release():
            return ["the checker is of another release"]
        return [HANGS] if self.hangs else []

    @property
    def hangs(self) -> bool:
        """Whether it lives and does nothing; it may have the lock of the unit then."""
        holder = self._files.holder()
        return holder is not None and holder.silent > SILENT_SECONDS

    def ensure(self) -> list[str]:
        """Have one at work on what is wanted now.

        :return: what was changed.
        :raises DriverError: when it does not start.
        """
        if not self.drift:
            self._files.wake()
            return []
        self.stop()
        self._system.start(
            sys.executable, "-I", "-S", nfl_checker.__file__, str(self._files.dir),
            log=self._files.dir / LOG,
        )  # fmt: skip
        self._await()
        return ["the checker is started"]

    def stop(self) -> None:
        """End it; fine when none runs."""
        holder = self._files.holder()
        if holder is not None:
            self._system.stop(holder.pid, holder.program)

    def _await(self) -> Holder:
        until = time.monotonic() + START_SECONDS
        while (holder := self._files.holder()) is None:
            if time.monotonic() > until:
                said = (read_private(self._files.dir / LOG) or "it said nothing").strip()[-300:]
                raise DriverError(f"the checker does not start: {said}")
            time.sleep(POLL_SECONDS)  # a lock that is taken says so to nobody: it has to be tried
        return holder
