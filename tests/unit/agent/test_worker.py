# SPDX-License-Identifier: Apache-2.0
"""A round of work that ended early is finished by the next one; what is on trial is proven."""

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cnsmo.agent.heartbeat import Heart
from cnsmo.agent.identity import HostIdentity, StateDir
from cnsmo.agent.settings import Settings
from cnsmo.agent.system import LocalSystem
from cnsmo.agent.wakeup import Reason, Wakeup
from cnsmo.agent.worker import Worker
from cnsmo.model.errors import DriverError, Unavailable
from cnsmo.model.host import HostFacts
from cnsmo.model.lifecycle import State
from cnsmo.model.messages import AgentReport, Announcement, Heartbeat, HeartbeatAnswer
from cnsmo.model.resource import Changes, Row
from cnsmo.services.base import Observation
from cnsmo.services.vpn.desired import VpnDesired
from cnsmo.services.vpn.drivers.noop import NoopDriver
from cnsmo.services.vpn.spec import VpnSpec

NOW = datetime.datetime(2026, 11, 23, tzinfo=datetime.UTC)
FACTS = HostFacts(site="east")


def row(revision: int, kind: str, name: str, body: dict[str, Any]) -> Row:
    return Row(kind=kind, name=name, owner="o", revision=revision, body=body, updated_at=NOW)


class Core:
    """Answers as the core would; fails as often as it is told to, by call."""

    def __init__(self) -> None:
        spec = VpnSpec(cidr=["10.66.0.0/24"], driver="noop")
        host = {"id": "h-1", "groups": ["mesh"], **FACTS.model_dump(mode="json")}
        self.rows = [
            row(1, "host", "web1", host),
            row(2, "vpn", "backbone", spec.model_dump(mode="json")),
        ]
        self.failures: dict[str, int] = {}
        self.called: list[str] = []
        self.reports: list[AgentReport] = []
        self.knocked: list[float] = []

    def _call(self, name: str) -> None:
        self.called.append(name)
        if self.failures.get(name, 0):
            self.failures[name] -= 1
            raise Unavailable("no core answered in time")

    def fail(self, first: Callable[[], object]) -> None:
        first()
        raise Unavailable("no core answered in time")

    def sync(self, since: int) -> Changes:
        rows = [it for it in self.rows if it.revision > since]
        return Changes(deployment="shop", head=len(self.rows), snapshot=False, rows=rows)

    def facts(self, facts: HostFacts) -> None:
        """Nothing is new in them."""

    def announce(self, announcement: Announcement) -> int:
        self._call("announce")
        body = {**announcement.body, "addresses": ["10.66.0.1"]}
        self.rows.append(row(len(self.rows) + 1, "vpn.member", "backbone/web1", body))
        return len(self.rows)

    def withdraw(self, service: str, instance: str) -> None:
        self._call("withdraw")

    def report(self, report: AgentReport) -> None:
        self._call("report")
        self.called.append(report.state.value)
        self.reports.append(report)

    def knock(self, patience: float) -> None:
        self._call("knock")
        self.knocked.append(patience)

    def heartbeat(self, beat: Heartbeat) -> HeartbeatAnswer:
        return HeartbeatAnswer(head=len(self.rows), confirmed={}, observe_at=None, forgotten=[])


@pytest.fixture
def core() -> Core:
    return Core()


@pytest.fixture
def worker(core: Core, tmp_path: Path) -> Worker:
    client: Any = core
    settings = Settings(
        StateDir(tmp_path, "all"), "web1", ("vpn",), LocalSystem(), lambda: FACTS, lambda: ""
    )
    heart = Heart(60, ["vpn"], client, Wakeup())
    identity = HostIdentity(id="h-1", secret="s", deployment="shop", host="web1")
    return Worker(settings, identity, client, heart)


class Trial:
    """A driver's trial: so many seconds are left, or it is over and the driver has gone back."""

    def __init__(self) -> None:
        self.left: float | None = 9.0
        self.in_time = True

    def confirm(self) -> bool:
        self.left = None
        return self.in_time


@pytest.fixture
def trial(monkeypatch: pytest.MonkeyPatch) -> Trial:
    """Whatever the driver applies is on trial."""
    made = Trial()
    monkeypatch.setattr(NoopDriver, "trial", lambda _driver: made.left)
    monkeypatch.setattr(NoopDriver, "confirm", lambda _driver: made.confirm())
    return made


def test_what_is_on_trial_stays_once_the_core_answered(
    worker: Worker, core: Core, trial: Trial
) -> None:
    assert worker.work({Reason.SYNC}) is None
    assert core.knocked == [9.0]
    assert (core.reports[-1].state, core.reports[-1].applied_revision) == (State.READY, 3)


def test_while_the_core_is_not_reached_it_is_tried_again(
    worker: Worker, core: Core, trial: Trial
) -> None:
    core.failures["knock"] = 1
    assert worker.work({Reason.SYNC}) == 1.0
    said = core.reports[-1]
    assert (said.state, said.applied_revision) == (State.CONFIGURING, 0)
    assert said.reason == (
        "on trial for 9 s more, then the last good state returns: no core answered in time"
    )
    assert worker.work({Reason.LOOK}) is None
    assert core.reports[-1].state is State.READY


@pytest.mark.parametrize("reached", [True, False])
def test_an_answer_that_comes_too_late_is_none(
    worker: Worker, core: Core, trial: Trial, reached: bool
) -> None:
    """The driver has gone back: it is looked at anew, and nobody is told otherwise."""
    trial.in_time = False
    if not reached:
        core.knock = lambda _patience: core.fail(trial.confirm)  # type: ignore[method-assign]
    assert worker.work({Reason.SYNC}) == 0.1
    said = core.reports[-1]
    assert (said.state, said.applied_revision) == (State.CONFIGURING, 0)
    assert said.reason.startswith("the trial is over: ")


def test_what_was_seen_during_a_trial_is_not_believed_after_it(
    worker: Worker, core: Core, trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    core.failures["knock"] = 1
    worker.work({Reason.SYNC})
    trial.left = None  # the driver has gone back

    def refuse(_driver: NoopDriver, _desired: object) -> list[str]:
        raise DriverError("no answer from the core")

    monkeypatch.setattr(NoopDriver, "apply", refuse)
    worker.work({Reason.SYNC})  # a hint, before the look that was asked for
    said = core.reports[-1]
    assert (said.state, said.applied_revision) == (State.ERROR, 0)
    assert said.reason == "backbone: no answer from the core"


def test_a_trial_that_ends_while_it_is_looked_at_is_not_believed(
    worker: Worker, core: Core, trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    observe = NoopDriver.observe

    def late(driver: NoopDriver, desired: VpnDesired) -> Observation:
        trial.left = None
        return observe(driver, desired)

    trial.in_time = False
    monkeypatch.setattr(NoopDriver, "observe", late)
    assert worker.work({Reason.SYNC}) == 0.1
    assert core.knocked == []
    assert core.reports[-1].reason == "the trial is over: the core did not answer in time"


@pytest.mark.parametrize("call", ["announce", "report"])
def test_what_the_core_did_not_hear_is_told_in_the_next_round_whatever_wakes_it(
    worker: Worker, core: Core, call: str
) -> None:
    core.failures[call] = 1
    with pytest.raises(Unavailable):
        worker.work({Reason.SYNC})
    worker.work({Reason.SYNC})  # a hint; there is nothing new in it
    assert core.called[-2:] == ["report", "ready"]
    core.called.clear()
    worker.work({Reason.SYNC})
    assert core.called == []


def test_what_is_known_is_in_force_though_the_core_takes_no_announcement(
    worker: Worker, core: Core, tmp_path: Path
) -> None:
    worker.work({Reason.SYNC})
    spec = core.rows[1].body
    core.rows.append(row(4, "vpn", "other", {**spec, "cidr": ["10.67.0.0/24"]}))
    core.rows.append(row(5, "vpn", "backbone", {**spec, "mtu": 1300}))
    core.failures["announce"] = 1
    with pytest.raises(Unavailable):
        worker.work({Reason.SYNC})
    kept = (tmp_path / "units/vpn/backbone/noop/desired.json").read_text()
    assert '"mtu": 1300' in kept
