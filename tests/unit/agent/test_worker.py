# SPDX-License-Identifier: Apache-2.0
"""A round of work that ended early is finished by the next one."""

import datetime
from math import inf
from pathlib import Path
from typing import Any

import pytest

from cnsmo.agent.heartbeat import Heart
from cnsmo.agent.identity import HostIdentity, StateDir
from cnsmo.agent.settings import Settings
from cnsmo.agent.system import LocalSystem
from cnsmo.agent.wakeup import Reason, Wakeup
from cnsmo.agent.worker import Worker
from cnsmo.model.errors import Unavailable
from cnsmo.model.host import HostFacts
from cnsmo.model.messages import AgentReport, Announcement, Heartbeat, HeartbeatAnswer
from cnsmo.model.resource import Changes, Row
from cnsmo.services.base import Observation
from cnsmo.services.firewall.service import FirewallService
from cnsmo.services.vpn.drivers.noop import NoopDriver
from cnsmo.services.vpn.service import VpnService
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
        self.reasons: list[str] = []
        self.services: list[str] = []
        self.syncs = 0
        self.observe_at: datetime.datetime | None = None

    def _call(self, name: str) -> None:
        self.called.append(name)
        self._fail(name)

    def _fail(self, name: str) -> None:
        if self.failures.get(name, 0):
            self.failures[name] -= 1
            raise Unavailable("no core answered in time")

    def sync(self, since: int) -> Changes:
        self.syncs += 1
        self._fail("sync")
        rows = [it for it in self.rows if it.revision > since]
        return Changes(
            deployment="shop",
            head=len(self.rows),
            snapshot=False,
            rows=rows,
            observe_at=self.observe_at,
        )

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
        self.reasons.append(report.reason)
        self.services.append(report.service)

    def heartbeat(self, beat: Heartbeat) -> HeartbeatAnswer:
        return HeartbeatAnswer(head=len(self.rows), confirmed={}, observe_at=None, forgotten=[])


@pytest.fixture
def core() -> Core:
    return Core()


def made(core: Core, path: Path, role: str = "all", *services: str) -> Worker:
    """A worker that runs these services; the VPN's unless told otherwise."""
    client: Any = core
    services = services or ("vpn",)
    settings = Settings(
        StateDir(path, role), "web1", services, LocalSystem(), lambda: FACTS, lambda: ""
    )
    heart = Heart(60, services, client, Wakeup())
    identity = HostIdentity(id="h-1", secret="s", deployment="shop", host="web1")
    return Worker(settings, identity, client, heart)


@pytest.fixture
def worker(core: Core, tmp_path: Path) -> Worker:
    return made(core, tmp_path)


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


def test_what_the_core_holds_against_what_it_was_told_is_told_again_at_the_next_beat(
    worker: Worker, core: Core
) -> None:
    worker.work({Reason.SYNC})
    worker.work({Reason.SYNC})
    late = {"state": "error", "reason": "of a report that hung in a core"}
    core.rows.append(row(len(core.rows) + 1, "agent", "web1/vpn", late))
    core.called.clear()
    worker.work({Reason.SYNC})
    assert core.called == [], "not at once: another VM may claim to be this host"
    worker._heart.beat()
    reasons = worker._heart._wakeup.take(0)
    assert Reason.REPORT in reasons
    worker.work(reasons)
    assert core.called == ["report", "ready"]
    assert not worker._heart.misheard


def test_who_is_asked_for_an_observation_while_others_report_is_not_deaf(
    worker: Worker, core: Core
) -> None:
    worker.work({Reason.SYNC})
    worker.work({Reason.SYNC})
    core.called.clear()
    # One hint tells of both; what others report is not worth a heartbeat.
    core.observe_at = NOW
    core.rows.append(row(len(core.rows) + 1, "agent", "db1/vpn", {"state": "ready", "reason": ""}))
    worker.work({Reason.SYNC})
    assert core.called == ["report", "ready"]
    core.called.clear()
    worker.work({Reason.SYNC})
    assert core.called == [], "it was told"


def test_an_observation_that_could_not_be_told_is_told_in_the_next_round(
    worker: Worker, core: Core
) -> None:
    worker.work({Reason.SYNC})
    core.called.clear()
    core.observe_at = NOW
    core.failures["report"] = 1
    with pytest.raises(Unavailable):
        worker.work({Reason.SYNC})
    worker.work({Reason.SYNC})
    assert core.called[-1] == "ready"


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


@pytest.mark.parametrize("given", [("firewall", "vpn"), ("vpn", "firewall")])
def test_services_are_brought_in_force_in_the_order_that_they_ask_for(
    core: Core, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: tuple[str, str]
) -> None:
    monkeypatch.setattr(FirewallService, "after", frozenset({"vpn"}))
    made(core, tmp_path, "all", *given).work({Reason.SYNC})
    assert core.services == ["vpn", "firewall"]
    monkeypatch.setattr(FirewallService, "after", frozenset())
    made(core, tmp_path, "all", *given).work({Reason.SYNC, Reason.REPORT})
    assert core.services[2:] == list(given)


# drivers that want to look again


class Eager:
    """What a driver sees that has something under way, and how often it looked."""

    def __init__(self) -> None:
        self.looks = 0
        self.seen = Observation(again=0.0)

    def observe(self, _driver: NoopDriver, _desired: Any) -> Observation:
        self.looks += 1
        return self.seen


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> Eager:
    """The VPN's driver wants to look again, at once."""
    made = Eager()
    monkeypatch.setattr(
        NoopDriver, "observe", lambda driver, desired: made.observe(driver, desired)
    )
    return made


def test_a_look_is_at_one_service_alone_and_the_core_is_not_asked(
    core: Core, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eager: Eager
) -> None:
    worker = made(core, tmp_path, "all", "vpn", "firewall")
    worker.work({Reason.SYNC})
    syncs, compiled = core.syncs, list[str]()
    core.called.clear()
    monkeypatch.setattr(FirewallService, "compile", lambda *_: compiled.append("again") or {})
    assert not worker.look()
    assert (eager.looks, core.syncs, core.called, compiled) == (2, syncs, [], [])


def test_a_look_that_finds_something_else_tells_it(
    worker: Worker, core: Core, eager: Eager
) -> None:
    worker.work({Reason.SYNC})
    core.called.clear()
    eager.seen = Observation(problems=("db1 is silent",))
    worker.look()
    assert core.called == ["report", "degraded"]
    assert worker.look_at == inf
    worker.look()
    assert eager.looks == 2


def test_a_look_goes_on_with_what_others_have_to_know_first(
    worker: Worker, core: Core, eager: Eager, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.work({Reason.SYNC})
    core.called.clear()
    body = {"driver": "noop", "fingerprint": ":".join(["AB"] * 32)}
    monkeypatch.setattr(NoopDriver, "announce", lambda *_: body)
    assert worker.look(), "it is to be fetched"
    assert core.called == ["announce"]


@pytest.mark.parametrize("reason", list(set(Reason) - {Reason.STOP}))
def test_a_round_that_fails_does_not_forget_who_wants_to_look_again(
    worker: Worker, core: Core, eager: Eager, reason: Reason
) -> None:
    worker.work({Reason.SYNC})
    core.failures["sync"] = 1
    with pytest.raises(Unavailable):
        worker.work({reason})
    worker.look_after(due=True)
    assert eager.looks == 2
    eager.seen = Observation()
    worker.look_after(due=True)
    worker.look_after(due=True)
    assert eager.looks == 3


def test_who_returned_from_disk_looks_again_without_the_core(
    core: Core, tmp_path: Path, eager: Eager
) -> None:
    made(core, tmp_path).work({Reason.SYNC})
    again = made(core, tmp_path)
    again.return_from_disk()
    assert (eager.looks, again.look_at < inf) == (2, True)
    again.look_after(due=True)
    assert eager.looks == 3


def test_a_plugin_that_fails_after_a_driver_asked_for_a_look_is_not_asked_for_ever(
    worker: Worker, eager: Eager, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise KeyError("surprise")

    worker.work({Reason.SYNC})
    monkeypatch.setattr(VpnService, "compile", fail)
    worker.look()
    assert worker.look_at == inf


# services that are not run here any more


def stray(path: Path, service: str, driver: str = "noop") -> Path:
    """The directory of a unit of another service."""
    folder = path / "units" / service / "old" / driver
    folder.mkdir(parents=True)
    return folder


def test_what_a_service_made_that_is_not_run_any_more_is_taken_down_at_start(
    core: Core, tmp_path: Path
) -> None:
    folder = stray(tmp_path, "firewall")
    made(core, tmp_path).return_from_disk()
    assert not folder.exists()


def test_a_process_for_one_service_leaves_the_others_to_theirs(core: Core, tmp_path: Path) -> None:
    folder = stray(tmp_path, "firewall")
    worker = made(core, tmp_path, role="vpn")
    worker.return_from_disk()
    worker.work({Reason.RESYNC})
    assert worker.teardown() == []
    assert folder.exists()


def test_what_nobody_can_take_down_is_told_and_tried_again(core: Core, tmp_path: Path) -> None:
    worker = made(core, tmp_path)
    folder = stray(tmp_path, "ghost")
    said = (
        "ghost is not run here any more, but old: cannot be removed: "
        "no driver 'noop' for ghost is installed here; there are: "
    )
    worker.work({Reason.RESYNC})
    assert core.called[-1] == "degraded"
    assert core.reasons[-1] == said
    assert worker.teardown() == [said]
    folder.rmdir()
    worker.work({Reason.RESYNC})
    assert core.called[-1] == "ready"
    assert worker.teardown() == []
