# SPDX-License-Identifier: Apache-2.0
"""One agent, the pair of this host and a service: makes the host equal to the replica."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from oslo_log import log

from cnsmo.agent.identity import StateDir
from cnsmo.agent.wakeup import Backoff
from cnsmo.model.errors import CnsmoError, Denied, Removed, Unavailable
from cnsmo.model.lifecycle import State
from cnsmo.model.messages import MAX_REASON, AgentReport, Announcement
from cnsmo.model.reading import read
from cnsmo.model.resource import View, joined, member_kind
from cnsmo.services import registry
from cnsmo.services.base import Desired, Driver, NetworkService, Observation, System, Unit

LOG = log.getLogger(__name__)
Announce = Callable[[Announcement], int]
Withdraw = Callable[[str, str], None]
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
        """label: ``deployment/host``, the mark of what belongs to us."""
        self.service = service
        self._system = system
        self._state_dir = state_dir
        self._label = label
        self._drivers: dict[tuple[str, str], Driver[Any]] = {}
        self._applied: dict[str, Desired] = {}
        self._repaired: list[str] = []
        self._unproven: set[Driver[Any]] = set()
        """Drivers that put something on trial when they were last called, whether it still is."""
        self._settled: Any = None
        self._last: Outcome | None = None
        self._trouble = Backoff(TROUBLE_SECONDS, LONGEST_TROUBLE_SECONDS)

    def announce(
        self, view: View, host: str, confirmed: int, announce: Announce, withdraw: Withdraw
    ) -> Announced:
        """Tell the core what others must know; where nothing is new, nothing is sent.

        :raises Unavailable: when the core does not answer.
        """
        told = Announced()
        if self.service.Announcement is None:
            return told
        try:
            units = {unit.name: unit for unit in self.service.units(view, host)}
        except Exception as exc:  # of a plugin; the other services shall not suffer
            LOG.exception("%s %s", self._label, self.service.name)
            return Announced(refused=[_unforeseen(exc)])
        for unit in units.values():
            try:
                revision = self._announce(view, host, unit, confirmed, announce)
            except (Unavailable, Removed, Denied):
                raise
            except CnsmoError as exc:
                told.refused.append(f"{unit.name}: {exc}")
            except Exception as exc:  # of a driver; the other units shall not suffer
                LOG.exception("%s %s %s", self._label, self.service.name, unit.name)
                told.refused.append(f"{unit.name}: {_unforeseen(exc)}")
            else:
                told.revision = max(told.revision, revision)
        for name in self._owned(view, host) - set(units):
            withdraw(self.service.name, name)
        return told

    def _announce(
        self, view: View, host: str, unit: Unit, confirmed: int, announce: Announce
    ) -> int:
        row = view.get(member_kind(self.service.name), joined(unit.name, host))
        driver = self._driver(unit.name, unit.driver)
        driver.check()
        body = driver.announce(unit)
        said = {} if row is None else self._plain(row.body)
        if row is not None and said == self._plain(body) and row.revision <= confirmed:
            body = driver.announce(dataclasses.replace(unit, confirmed=True))
        if said == self._plain(body) and self.service.admitted(view, unit.name, host):
            return 0
        wanted = self.service.compile(view, host).get(unit.name)
        if driver.prepares and row is None and wanted is not None:
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
        self, view: View, host: str, problems: list[str], thorough: bool = True
    ) -> Outcome:
        """Compile, apply what differs, observe, and say where that leaves us.

        problems: what already went wrong on the way (announcements that were refused). thorough:
        look at what is really there, even when nothing else is desired than the last time.
        """
        try:
            desired = self.service.compile(view, host)
            units = {(unit.name, unit.driver) for unit in self.service.units(view, host)}
        except Exception as exc:  # of a plugin; the other services shall not suffer
            LOG.exception("%s %s", self._label, self.service.name)
            return Outcome(State.ERROR, _unforeseen(exc), {}, applied=False)
        situation = (desired, units, problems)
        if not thorough and self._last is not None and self._settled == situation:
            return self._last
        outcome = self._reconcile(desired, units, problems)
        calm = outcome.applied and outcome.again is None and not outcome.repaired
        calm = calm and not self._unproven
        self._settled, self._last = situation, outcome if calm else None
        return outcome

    def _reconcile(
        self, desired: Mapping[str, Desired], units: set[tuple[str, str]], problems: list[str]
    ) -> Outcome:
        self._unproven.clear()
        kept = units | {(name, wanted.driver) for name, wanted in desired.items()}
        failures = list(problems) + self._remove_all_but(kept)
        doubts: list[str] = []
        seen: dict[str, Observation] = {}
        placed = {name: wanted for name, wanted in desired.items() if not wanted.waiting}
        for name, wanted in placed.items():
            try:
                seen[name] = self._converge(name, wanted)
            except CnsmoError as exc:
                LOG.warning("%s %s %s: %s", self._label, self.service.name, name, exc)
                failures.append(f"{name}: {exc}")
                continue
            except Exception as exc:
                LOG.exception("%s %s %s", self._label, self.service.name, name)
                failures.append(f"{name}: {_unforeseen(exc)}")
                continue
            problems_now = (*wanted.problems, *seen[name].problems)
            doubts += [f"{name}: {problem}" for problem in problems_now]
        waiting = sorted({name for name, _driver in units} - set(placed))
        state, reason = _standing(failures, doubts, waiting)
        repaired, self._repaired = self._repaired, []
        wishes = [found.again for found in seen.values() if found.again is not None]
        if failures:
            wishes.append(self._trouble.pause())
        else:
            self._trouble.reset()
        return Outcome(
            state,
            reason,
            observation={name: dict(found.detail) for name, found in seen.items()},
            applied=not failures,
            repaired=repaired,
            again=min(wishes, default=None),
        )

    def _converge(self, name: str, wanted: Desired) -> Observation:
        driver = self._driver(name, wanted.driver)
        driver.check()
        try:
            changes = driver.apply(wanted)
        finally:
            if driver.trial() is not None:
                self._unproven.add(driver)
        known = self._applied.get(name) == wanted
        self._applied[name] = wanted
        if known:
            self._repaired += [f"{name}: {change}" for change in changes]
        for change in changes:
            LOG.info(
                "%s %s %s: %s%s",
                self._label, self.service.name, name, "repaired: " if known else "", change,
            )  # fmt: skip
        observation = driver.observe(wanted)
        if observation.drift:
            raise CnsmoError("still not as declared: " + "; ".join(observation.drift[:5]))
        return observation

    def _remove_all_but(self, kept: set[tuple[str, str]]) -> list[str]:
        """Remove units, and drivers of units, that have no business here (any more)."""
        failures = []
        made = {*self._state_dir.units(self.service.name), *self._drivers}
        for name, driver in sorted(made - kept):
            if not self._replaceable(name, kept):
                continue  # what cannot work here does not replace what does
            try:
                self._driver(name, driver).remove()
            except CnsmoError as exc:
                failures.append(f"{name}: cannot be removed: {exc}")
                continue
            except Exception as exc:
                LOG.exception("%s %s %s", self._label, self.service.name, name)
                failures.append(f"{name}: cannot be removed: {_unforeseen(exc)}")
                continue
            LOG.info("%s %s %s: removed", self._label, self.service.name, name)
            self._drivers.pop((name, driver), None)
            self._applied.pop(name, None)
        return failures

    def _replaceable(self, unit: str, kept: set[tuple[str, str]]) -> bool:
        """Whether the driver that takes a unit over, if one does, has what it needs."""
        try:
            for name, driver in kept:
                if name == unit:
                    self._driver(name, driver).check()
        except CnsmoError:
            return False
        return True

    def on_trial(self) -> float | None:
        """Seconds for which the first of the changes on trial is so; None when none is.

        0: one was, and its driver has gone back since; what was observed is not there any more.
        """
        return min((driver.trial() or 0.0 for driver in self._unproven), default=None)

    def confirm(self) -> bool:
        """What is on trial stays.

        :return: whether it does; False: a driver has gone back before.
        :raises DriverError: when that cannot be written down.
        """
        late = {driver for driver in self._unproven if not driver.confirm()}
        self._unproven = late
        return not late

    def remove(self) -> list[str]:
        """Take everything of this service away from the host.

        :return: what could not be taken away.
        """
        return self._remove_all_but(set())

    def _driver(self, unit: str, name: str) -> Driver[Any]:
        key = (unit, name)
        if key not in self._drivers:
            self._drivers[key] = registry.make_driver(
                self.service.name,
                name,
                self._system,
                unit,
                joined(self._label, unit),
                self._state_dir.unit(self.service.name, unit, name),
            )
        return self._drivers[key]


def _unforeseen(exc: Exception) -> str:
    return f"unforeseen {type(exc).__name__}: {exc}"


def report_of(service: str, outcome: Outcome, revision: int) -> AgentReport:
    """The report that tells the core of an outcome."""
    return AgentReport(
        service=service,
        state=outcome.state,
        reason=outcome.reason[:MAX_REASON],
        applied_revision=revision,
        observation=outcome.observation,
    )


def _standing(failures: list[str], doubts: list[str], waiting: list[str]) -> tuple[State, str]:
    """The state that follows from what was found, the worst first, and its reason."""
    if failures:
        return State.ERROR, "; ".join(failures)
    if waiting:
        return State.CONFIGURING, f"waiting for a place in {', '.join(waiting)}"
    if doubts:
        return State.DEGRADED, "; ".join(doubts)
    return State.READY, ""
