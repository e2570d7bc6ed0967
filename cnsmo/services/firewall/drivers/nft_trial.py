# SPDX-License-Identifier: Apache-2.0
"""Rulesets on trial: the new one stays only if the core proves to be reachable through it.

``good.nft`` is the last that was confirmed, whole, what a machine loads when it starts. A trial is
``trial.nft`` and ``trial.json``; renaming the first to ``good.nft`` is what confirms it. A guard
process goes back otherwise; see guard.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from cnsmo.files import sync_file, sync_folder
from cnsmo.model.errors import DriverError
from cnsmo.services.base import System
from cnsmo.services.firewall.drivers import guard
from cnsmo.services.firewall.drivers.nft_guard import Guard
from cnsmo.services.firewall.drivers.nft_render import FINGERPRINT, Ruleset
from cnsmo.services.kit.private_files import ensure_directory, read_private, write_private

LONG_SECONDS = 0.2
"""What loading may take of a trial's time."""


@dataclasses.dataclass(frozen=True)
class Pending:
    """A trial under way. ``deadline``: of the monotonic clock; ``since``: seconds of the epoch."""

    id: str
    fingerprint: str
    deadline: float
    since: float


@dataclasses.dataclass(frozen=True)
class Refused:
    """A structure that proved wrong, and what the operator is told."""

    fingerprint: str
    reason: str


class Trials:
    """The files of one firewall's trials, and their guards."""

    def __init__(self, system: System, state_dir: Path) -> None:
        self._system = system
        self._dir = state_dir
        self._guard = Guard(system, state_dir)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep guards and other agent processes out; wherever the agent dies, it lets go."""
        ensure_directory(self._dir)
        path = self._dir / guard.LOCK
        if not path.exists():
            write_private(path, "")
        with path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @property
    def pending(self) -> Pending | None:
        """What is on trial, whether its guard lives or not."""
        read = guard.read_json(self._dir / guard.TRIAL)
        if not read or not (self._dir / guard.TRIAL_RULES).exists():
            return None
        try:
            return Pending(
                str(read["id"]), str(read["fingerprint"]), float(read["deadline"]),
                float(read["since"]),
            )  # fmt: skip
        except (KeyError, ValueError, TypeError):
            return Pending("torn", "", 0.0, 0.0)

    @property
    def guarded(self) -> Pending | None:
        """What is on trial under the eyes of a guard."""
        pending = self.pending
        if pending and guard.guard_pid(self._dir, pending.id) is not None:
            return pending
        return None

    @property
    def refused(self) -> Refused | None:
        """What was tried last and went back."""
        read = guard.read_json(self._dir / guard.REFUSED)
        return Refused(str(read.get("fingerprint")), str(read.get("reason"))) if read else None

    def pardon(self) -> None:
        """Forget what was refused: something else is desired, and it may be tried again."""
        (self._dir / guard.REFUSED).unlink(missing_ok=True)

    @property
    def good(self) -> str | None:
        """The text of the last good ruleset."""
        return read_private(self._dir / guard.GOOD)

    @property
    def good_fingerprint(self) -> str | None:
        """Which structure the last good ruleset has."""
        try:
            with (self._dir / guard.GOOD).open(encoding="utf-8") as file:
                first = file.readline()
        except FileNotFoundError:
            return None
        return first.removeprefix(FINGERPRINT).strip()

    def save_good(self, ruleset: Ruleset) -> None:
        """Replace the last good ruleset."""
        write_private(self._dir / guard.GOOD, ruleset.text)

    def save_trial(self, ruleset: Ruleset) -> None:
        """Replace the ruleset that is on trial by one of its structure."""
        write_private(self._dir / guard.TRIAL_RULES, ruleset.text)

    def forget_good(self) -> None:
        """Take the last good ruleset away: it never was in force."""
        (self._dir / guard.GOOD).unlink(missing_ok=True)

    @property
    def saved(self) -> str | None:
        """The text of what is in force: on trial, or good."""
        return read_private(self._dir / (guard.TRIAL_RULES if self.pending else guard.GOOD))

    def begin(self, ruleset: Ruleset, seconds: float) -> Pending:
        """Put a ruleset on trial that is about to be loaded: its guard watches when this returns.

        What it goes back to is on the disk already. The trial itself need not survive the machine:
        that starts with the last good ruleset.

        :raises DriverError, ProgramError: when it cannot be.
        """
        ident = uuid.uuid4().hex[:12]
        until = time.monotonic() + seconds
        made = Pending(ident, ruleset.structure.fingerprint, until, time.time())
        write_private(self._dir / guard.TRIAL_RULES, ruleset.text, lasting=False)
        self._write(made, seconds)
        self._guard.watch(ident)
        return made

    def begin_anew(self, pending: Pending, seconds: float) -> None:
        """Count the trial's seconds from now on, where loading took long."""
        now = time.monotonic()
        if now + seconds - pending.deadline > LONG_SECONDS:
            self._write(dataclasses.replace(pending, deadline=now + seconds), seconds)

    def confirm(self) -> bool:
        """Make the trial the last good ruleset; False where nothing is on trial any more."""
        pending = self.guarded
        if pending is None:
            return False
        try:
            sync_file(self._dir / guard.TRIAL_RULES)
            (self._dir / guard.TRIAL_RULES).replace(self._dir / guard.GOOD)
            sync_folder(self._dir)
        except OSError as exc:
            raise DriverError(f"the ruleset cannot be confirmed: {exc.strerror}") from exc
        self.drop()
        self.end_guards()
        return True

    def drop(self) -> None:
        """Nothing is on trial any more. A guard that still waits finds nothing to do."""
        for name in (guard.TRIAL_RULES, guard.TRIAL):
            (self._dir / name).unlink(missing_ok=True)

    def end_guards(self, but: str | None = None) -> None:
        """End all guards but one; what they watched over is no trial any more."""
        for path in self._dir.glob("guard-*"):
            ident = path.name.removeprefix("guard-")
            if ident == but or self._guard.rests(ident):
                continue
            pid = guard.guard_pid(self._dir, ident)
            if pid is not None:
                self._system.stop(pid, sys.executable)
            path.unlink(missing_ok=True)

    def stand_by(self) -> None:
        """Have a guard started before there is anything to watch over."""
        self._guard.stand_by()

    def dismiss_guard(self) -> None:
        """No guard is needed here any more."""
        self._guard.dismiss()

    def _write(self, pending: Pending, seconds: float) -> None:
        fields = {**dataclasses.asdict(pending), "seconds": seconds}
        write_private(self._dir / guard.TRIAL, json.dumps(fields), lasting=False)
