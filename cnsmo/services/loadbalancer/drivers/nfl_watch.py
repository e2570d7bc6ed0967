# SPDX-License-Identifier: Apache-2.0
"""The checker: checks servers at their interval, and takes them in and out. Standard library only.

It goes on when no agent is there, and ends by itself when nothing is wanted any more.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import sys
import time

from cnsmo.model.errors import ProgramError
from cnsmo.services.kit import boot
from cnsmo.services.loadbalancer.drivers.nfl_change import SPARE_SECONDS, Loaded
from cnsmo.services.loadbalancer.drivers.nfl_files import Files
from cnsmo.services.loadbalancer.drivers.nfl_health import Judge
from cnsmo.services.loadbalancer.drivers.nfl_probe import Probe, Result
from cnsmo.services.loadbalancer.drivers.nfl_rounds import Rounds
from cnsmo.services.loadbalancer.drivers.nfl_settle import Run, settle
from cnsmo.services.loadbalancer.drivers.nfl_wanted import Inspection, Target, Wanted

LOOK_SECONDS = 1.0
"""How often it looks whether something else is wanted, though nobody woke it."""
RETRY_SECONDS = 1.0
BUSY_SECONDS = 0.02
"""How soon it asks for the lock again."""
PATIENCE_SECONDS = 10.0
"""How long somebody may hold the lock before he is taken for hung."""


class Watch:
    """One unit's checker."""

    def __init__(self, files: Files, run: Run) -> None:
        self._files = files
        self._run = run
        self._wanted: Wanted | None = None
        self._version: tuple[int, int] | None = None
        self._checked: dict[str, Target] | None = None
        self._check: Inspection | None = None
        self._judge = Judge(files.health())
        self._rounds = Rounds()
        self._due = 0.0
        """When to settle next, on the monotonic clock."""
        self._waiting_since: float | None = None
        self._said = ""
        self._selector = selectors.DefaultSelector()
        self._pipe = files.open_wake()
        self._selector.register(self._pipe, selectors.EVENT_READ)

    def go_on(self) -> bool:
        """Do what is due, and wait for what comes next; False: nothing is wanted any more."""
        if not self._read():
            return False
        for probe in self._rounds.begin(time.monotonic()):
            self._begin(probe)
        if time.monotonic() >= self._due:
            self._settle()
        for key, _events in self._selector.select(self._pause()):
            if isinstance(key.data, Probe):
                self._advance(key.data)
            else:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._pipe, 4096)
        for probe in self._rounds.expired(time.monotonic()):
            self._finish(probe, probe.expire())
        return True

    def _read(self) -> bool:
        """Take note of what is wanted."""
        version = self._files.version()
        if version is None:
            return False
        wanted = self._files.wanted() if version != self._version else None
        if wanted is None:
            return True
        self._version, self._wanted, self._due = version, wanted, 0.0
        self._inspect(wanted, self._files.loaded())
        return True

    def _inspect(self, wanted: Wanted, loaded: Loaded) -> None:
        """Check from now on those who are wanted, and of those who leave the ones that serve on."""
        checked = {
            it.key: it
            for it in wanted.targets
            if wanted.check.kind != "none" and not (it.leaving and loaded.stopped(it.key))
        }
        if checked == self._checked and wanted.check == self._check:
            return
        self._checked, self._check = checked, wanted.check
        if self._judge.keep(checked, loaded.usable, time.time()):
            self._tell()
        for probe in self._rounds.plan(wanted.check, checked, time.monotonic()):
            self._drop(probe)

    def _begin(self, probe: Probe) -> None:
        result = probe.begin()
        if result is not None or probe.socket is None:
            self._finish(probe, result or Result(None, ""))
        else:
            self._selector.register(probe.socket, probe.events, probe)

    def _advance(self, probe: Probe) -> None:
        if probe.socket is None:
            return
        events = probe.events
        result = probe.advance()
        if result is not None:
            self._finish(probe, result)
        elif probe.events != events:
            self._selector.modify(probe.socket, probe.events, probe)

    def _finish(self, probe: Probe, result: Result) -> None:
        passed = self._rounds.over(probe)
        for each in (probe, *passed):
            self._drop(each)
        if self._wanted is None or not passed:
            return
        if result.well is None:
            self._say(f"{probe.target.name} cannot be checked: {result.why}")
            return
        check, key = self._wanted.check, probe.target.key
        if self._judge.hear(key, result.well, result.why, (check.rise, check.fall), time.time()):
            self._tell()
            self._due = 0.0

    def _drop(self, probe: Probe) -> None:
        if probe.socket is not None:
            with contextlib.suppress(KeyError):
                self._selector.unregister(probe.socket)
        probe.close()

    def _tell(self) -> None:
        try:
            self._files.put_health(self._judge.verdicts)
        except OSError as exc:
            self._say(f"health.json cannot be written: {exc.strerror}")

    def _settle(self) -> None:
        """Bring what was found in force, unless the driver is at it."""
        began = time.monotonic()
        self._waiting_since = self._waiting_since or began
        with self._files.lock(0) as mine:
            if not mine and began - self._waiting_since < PATIENCE_SECONDS:
                self._due = began + BUSY_SECONDS
                return
            self._waiting_since = None
            if self._wanted is None or self._files.version() != self._version:
                self._due = began + LOOK_SECONDS  # something else is wanted: it is read first
                return
            loaded, now = self._files.loaded(), boot.now()
            try:
                loaded = settle(
                    self._wanted, loaded, self._judge.verdicts, now, self._run, self._remember
                )
            except ProgramError as exc:
                self._say(str(exc))
                self._due = time.monotonic() + RETRY_SECONDS
                return
        self._inspect(self._wanted, loaded)
        ends = [due for it in loaded.leaving.values() if (due := it.due(now)) is not None]
        ends += [since + SPARE_SECONDS for since in loaded.spare.values()]
        self._due = began + min((it - now for it in ends if it > now), default=float("inf"))

    def _remember(self, loaded: Loaded) -> None:
        try:
            self._files.put_loaded(loaded)
        except OSError as exc:  # the disk is full: no reason to send clients to who is dead
            self._say(f"loaded.json cannot be written: {exc.strerror}")

    def _pause(self) -> float:
        now = time.monotonic()
        return max(0.0, min(self._due - now, self._rounds.next() - now, LOOK_SECONDS))

    def _say(self, text: str) -> None:
        """A line in the log; not the same one again and again."""
        if text != self._said:
            self._said = text
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()
