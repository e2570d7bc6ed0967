# SPDX-License-Identifier: Apache-2.0
"""One agent, the pair of this host and a service: makes the host equal to the replica."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from math import inf
from typing import Any

from oslo_log import log

from cnsmo.agent.failures import Failures, in_words
from cnsmo.agent.handover import hand_over
from cnsmo.agent.identity import StateDir
from cnsmo.agent.pace import SHARE, PutOff
from cnsmo.agent.units import Units
from cnsmo.agent.wakeup import Backoff
from cnsmo.model.errors import CnsmoError, Denied, Removed, Unavailable
from cnsmo.model.lifecycle import State
from cnsmo.model.messages import Announcement
from cnsmo.model.reading import read
from cnsmo.model.resource import View, joined, member_kind
from cnsmo.services.base import Desired, Driver, NetworkService, Observation, System, Unit

LOG = log.getLogger(__name__)
Announce = Callable[[Announcement], int]
Withdraw = Callable[[str, str], None]
Reach = Callable[[float], None]
"""Reaches the core over a new connection within so many seconds, or raises a CnsmoError."""
CORES_TROUBLE = (Unavailable, Removed, Denied)
"""What no unit is to blame for."""
TRIAL_SECONDS = 1.0
"""How soon the core is tried again while a change is on trial."""
OVER_SECONDS = 0.1
"""How soon is looked at what became of a trial that is over."""
TROUBLE_SECONDS, LONGEST_TROUBLE_SECONDS = 2.0, 60.0
"""After a failure: how soon it is tried again, at first and at last."""


@dataclasses.dataclass
class Outcome:
    """Where the agent stands after a pass, and why."""

    state: State
    reason: str
    observation: dict[str, Any]
    applied: bool
    """Whether the view's revision is in force."""
    repaired: list[str] = dataclasses.field(default_factory=list)
    """Drift that was found and repaired in this pass."""
    again: float | None = None
    """Seconds after which a driver wants to be called again."""
    missing: tuple[str, ...] = ()
    """Units that have their place, and are not in force."""
    untold: bool = False
    """Whether it is in force, and who else is interested hears of it a moment later."""
    seen_at: float = dataclasses.field(default_factory=time.time, compare=False)
    """When it was looked at, in seconds of the epoch."""


@dataclasses.dataclass
class Announced:
    """What came of telling the core."""

    revision: int = 0
    """The newest revision that holds something that was told just now; 0 when nothing was."""
    refused: list[str] = dataclasses.field(default_factory=list)
    """What the core did not take, and why."""


class ServiceAgent:
    """Keeps all units of one service on this host."""

    def __init__(
        self, service: NetworkService, system: System, state_dir: StateDir, label: str
    ) -> None:
        """label: ``deployment/host``, which every mark of ours begins with."""
        self.service = service
        self._units = Units(service.name, system, state_dir, label)
        self._where = self._units.where
        self._applied: dict[str, Desired] = {}
        self._repaired: list[str] = []
        self.look_at = inf
        """When to look again though nothing else is desired, by the monotonic clock: a driver
        wants to, or something failed."""
        self._unproven: dict[str, Driver[Any]] = {}
        """Drivers that put something on trial when they were last called, whether it still is."""
        self._put_off = PutOff()
        """To look at what is on trial, and to prove it."""
        self._settled: Any = None
        self._last: Outcome | None = None
        self._missing: frozenset[str] = frozenset()
        """Units that have their place, and were not in force after the last pass."""
        self._trouble = Backoff(TROUBLE_SECONDS, LONGEST_TROUBLE_SECONDS)

    def announce(
        self, view: View, host: str, confirmed: int, announce: Announce, withdraw: Withdraw
    ) -> Announced:
        """Tell the core what others must know; where nothing is new, nothing is sent.

        :raises Unavailable: when the core does not answer.
        """
        me = view.everybody.get(host)
        if self.service.Announcement is None or (me is not None and me.quarantined):
            return Announced()  # from quarantine it comes back to the place that it has
        try:
            units = {unit.name: unit for unit in self.service.units(view, host)}
        except Exception as exc:  # of a plugin; the other services shall not suffer
            LOG.exception("%s", self._where)
            return Announced(refused=[in_words(exc)])
        newest, failures = 0, Failures(self._where)
        for name, unit in units.items():
            with failures.of(name, through=CORES_TROUBLE):
                newest = max(newest, self._announce(view, host, unit, confirmed, announce))
        for name in sorted(self._owned(view, host) - set(units)):
            with failures.of(name, "cannot be withdrawn: ", through=CORES_TROUBLE):
                withdraw(self.service.name, name)
        return Announced(newest, failures.lines)

    def _announce(
        self, view: View, host: str, unit: Unit, confirmed: int, announce: Announce
    ) -> int:
        row = view.get(member_kind(self.service.name), joined(unit.name, host))
        driver = self._units.ready(unit.name, unit.driver)
        body = driver.announce(unit)
        said = {} if row is None else self._plain(row.body)
        if row is not None and said == self._plain(body) and row.revision <= confirmed:
            body = driver.announce(dataclasses.replace(unit, confirmed=True))
        if said == self._plain(body) and self.service.admitted(view, unit.name, host):
            return 0
        wanted = self.service.compile(view, host).get(unit.name)
        alone = self._units.drivers(unit.name) == {unit.driver}  # another's work is not disturbed
        if driver.prepares and row is None and wanted is not None and alone:
            driver.apply(wanted)
        return announce(Announcement(service=self.service.name, instance=unit.name, body=body))

    def _plain(self, body: dict[str, Any]) -> dict[str, Any]:
        """What a host announced, in one form: without what the core added, or what says nothing."""
        model = self.service.Announcement
        return {} if model is None else read(model, body).model_dump(mode="json", exclude_none=True)

    def _owned(self, view: View, host: str) -> set[str]:
        """Instances that this host has announced itself to."""
        return {
            row.name.rpartition("/")[0]
            for row in view.rows(member_kind(self.service.name))
            if row.name.rpartition("/")[2] == host
        }

    def reconcile(
        self,
        view: View,
        host: str,
        problems: list[str],
        thorough: bool = True,
        reach: Reach | None = None,
        later: float = 0.0,
    ) -> Outcome:
        """Compile, apply what differs, observe, and say where that leaves us.

        problems: what already went wrong on the way (announcements that were refused). thorough:
        look at what is really there, even when nothing else is desired than the last time; what
        failed then, or is under way, is looked at again when it is time to (look_at).
        reach: asked when something is on trial; None where the core is not asked now. later: for
        about so many seconds all that follows is put off where a change is in force, on trial.
        """
        try:
            desired = self.service.compile(view, host)
            units = {(unit.name, unit.driver) for unit in self.service.units(view, host)}
        except Exception as exc:  # of a plugin; the other services shall not suffer
            LOG.exception("%s", self._where)
            return Outcome(State.ERROR, in_words(exc), {}, applied=False)
        situation = (desired, units, problems)
        if not thorough and self._last is not None and self._settled == situation:
            return self._last
        self._unproven.clear()
        outcome, tried = self._reconcile(desired, units, problems, reach, later)
        self.look_at = inf if outcome.again is None else time.monotonic() + outcome.again
        # What was seen during a trial need not be there after it.
        self._settled = situation
        self._last = None if tried else dataclasses.replace(outcome, repaired=[])
        return outcome

    def _reconcile(
        self,
        desired: Mapping[str, Desired],
        units: set[tuple[str, str]],
        problems: list[str],
        reach: Reach | None,
        later: float,
    ) -> tuple[Outcome, bool]:
        """Where it leads, and whether something was on trial meanwhile."""
        kept = units | {(name, wanted.driver) for name, wanted in desired.items()}
        failures = Failures(self._where, problems)
        self._remove_gone(kept, failures)
        placed = {name: wanted for name, wanted in desired.items() if not wanted.waiting}
        enforced: dict[str, list[str]] = {}
        for name, wanted in placed.items():
            with failures.of(name):
                enforced[name] = self._enforce(name, wanted, kept, failures)
        if reach is not None and self._is_put_off(any(enforced.values()), later, failures):
            return _untold(self._put_off.left), True
        self._put_off.end()
        seen: dict[str, Observation] = {}
        for name in enforced:
            with failures.of(name):
                seen[name] = self._follow_up(name, placed[name])
        waiting = sorted({name for name, _driver in units} - set(placed))
        pending = [f"waiting for a place in {', '.join(waiting)}"] if waiting else []
        tried = bool(self._unproven)
        on_trial, soon = self._prove(reach, failures)
        doubts = [
            f"{name}: {problem}"
            for name, found in seen.items()
            for problem in (*placed[name].problems, *found.problems)
        ]
        state, reason = _standing(failures.lines, pending + on_trial, doubts)
        repaired, self._repaired = self._repaired, []
        self._missing = frozenset(placed) - frozenset(seen)
        wishes = [found.again for found in seen.values() if found.again is not None]
        wishes += soon
        if failures.lines:
            wishes.append(self._trouble.pause())
        else:
            self._trouble.reset()
        made = Outcome(
            state,
            reason,
            observation={name: dict(found.detail) for name, found in seen.items()},
            applied=not failures.lines and not on_trial,
            repaired=repaired,
            again=min(wishes, default=None),
            missing=tuple(sorted(self._missing)),
        )
        return made, tried

    def _enforce(
        self, name: str, wanted: Desired, kept: set[tuple[str, str]], failures: Failures
    ) -> list[str]:
        """Bring a unit in force; what was changed."""
        driver = self._units.ready(name, wanted.driver)
        before = self._applied.get(name)
        replaced = {old for old in self._units.drivers(name) if (name, old) not in kept}
        try:
            if replaced:
                changes = hand_over(self._units, name, replaced, before, wanted)
            else:
                changes = driver.enforce(wanted)
        finally:
            with failures.of(name, "whether something is on trial cannot be told: "):
                if driver.trial() is not None:
                    self._unproven[name] = driver
        known = before == wanted
        self._applied[name] = wanted
        if known:
            self._repaired += [f"{name}: {change}" for change in changes]
        for change in changes:
            LOG.info(
                "%s %s: %s%s",
                self._where, name, "repaired: " if known else "", change,
            )  # fmt: skip
        return changes

    def _follow_up(self, name: str, wanted: Desired) -> Observation:
        """Do what a unit's driver left to be done, and see what is there."""
        driver = self._units.driver(name, wanted.driver)
        driver.follow_up(wanted)
        observation = driver.observe(wanted)
        if observation.drift:
            raise CnsmoError("still not as declared: " + "; ".join(observation.drift[:5]))
        return observation

    def _is_put_off(self, changed: bool, later: float, failures: Failures) -> bool:
        """Whether a change on trial is left at that for now."""
        if not self._unproven or failures.lines or not later:
            return False
        if changed:
            self._put_off.begin(min(later, self._left(failures) * SHARE))
        return self._put_off.left > 0

    def _remove_gone(self, kept: set[tuple[str, str]], failures: Failures) -> None:
        """Remove units that have no business here (any more).

        A unit that changes its driver stays as it is until the new one can take over.
        """
        here = {name for name, _driver in kept}
        for name, driver in sorted(self._units.made()):
            if name not in here:
                with failures.of(name, "cannot be removed: "):
                    self._units.remove(name, driver)
                    self._applied.pop(name, None)

    def _prove(self, reach: Reach | None, failures: Failures) -> tuple[list[str], list[float]]:
        """Let what is on trial stay, once the core answered over a new connection.

        An old connection proves nothing: it may stay open where a new one is refused. What is on
        trial no more when the answer comes has gone back, and is looked at anew.

        :return: why it is on trial still, if it is, and how soon that is looked at again.
        """
        if not self._unproven:
            return [], []
        trouble = "the core did not answer in time"
        try:
            if reach is None:
                raise Unavailable("the core has not been asked yet")
            if (left := self._left(failures)) > 0:
                reach(left)
                if self._confirm(failures):
                    return [], []
        except CnsmoError as exc:
            trouble = str(exc)
        LOG.warning("%s: on trial: %s", self._where, trouble)
        left = self._left(failures)
        reason = f"the trial is over: {trouble}"
        if left > 0:
            reason = (
                f"on trial until the core is reached, else the last good state returns: {trouble}"
            )
        return [reason], [min(max(left, OVER_SECONDS), TRIAL_SECONDS)]

    def _left(self, failures: Failures) -> float:
        """Seconds for which the first of the changes on trial is so; 0: one has gone back."""
        left = TRIAL_SECONDS
        for number, (name, driver) in enumerate(self._unproven.items()):
            with failures.of(name, "whether something is on trial cannot be told: "):
                seconds = driver.trial() or 0.0
                left = min(left, seconds) if number else seconds
        return left

    def _confirm(self, failures: Failures) -> bool:
        """Let it stay; False: a driver has gone back before."""
        for name, driver in list(self._unproven.items()):
            with failures.of(name, "what is on trial cannot be confirmed: "):
                if driver.confirm():
                    LOG.info("%s %s: the core was reached, it stays", self._where, name)
                    del self._unproven[name]
        return not self._unproven

    def look(self, last: Outcome) -> Outcome:
        """Look at what was brought in force, and change nothing; trouble is left to reconcile().

        :return: the outcome that is given, with what is seen now.
        """
        failures = Failures(self._where)
        seen: dict[str, Observation] = {}
        for name, wanted in self._applied.items():
            with failures.of(name, "cannot be looked at: "):
                seen[name] = self._units.ready(name, wanted.driver).observe(wanted)
        gone = {name for name in self._applied if name not in seen or seen[name].drift}
        now: dict[str, Any] = {
            "observation": {name: dict(found.detail) for name, found in seen.items()},
            "missing": tuple(sorted(self._missing | gone)),
            "seen_at": time.time(),
        }
        if self._last is not None:  # the next report is no older than what was shown here
            self._last = dataclasses.replace(self._last, **now)
        return dataclasses.replace(last, **now)

    def remove(self) -> list[str]:
        """Take everything of this service away from the host.

        :return: what could not be taken away.
        """
        self._applied.clear()
        return self._units.remove_all()


def _untold(seconds: float) -> Outcome:
    """Where it stands until what follows a change is done."""
    reason = "in force, on trial until the core is reached"
    return Outcome(State.CONFIGURING, reason, {}, applied=False, again=seconds, untold=True)


def _standing(failures: list[str], pending: list[str], doubts: list[str]) -> tuple[State, str]:
    """The state that follows from what was found, the worst first, and its reason."""
    for state, found in (
        (State.ERROR, failures),
        (State.CONFIGURING, pending),
        (State.DEGRADED, doubts),
    ):
        if found:
            return state, "; ".join(found)
    return State.READY, ""
