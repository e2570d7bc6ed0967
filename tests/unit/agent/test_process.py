# SPDX-License-Identifier: Apache-2.0
"""Whole agents and a core on the bus inside one process: order never matters."""

import dataclasses
import errno
import json
import threading
import time
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path
from typing import Any

import pytest
from oslo_config import cfg

from cnsmo.agent.identity import StateDir
from cnsmo.agent.process import AgentProcess
from cnsmo.agent.settings import Settings
from cnsmo.agent.system import LocalSystem
from cnsmo.agent.wakeup import Reason
from cnsmo.bus.clients import OperatorClient
from cnsmo.bus.events import Watch
from cnsmo.core.server import CoreServer
from cnsmo.model.errors import Conflict, Denied, DriverError, Removed, Unavailable
from cnsmo.model.host import HostFacts
from cnsmo.model.messages import EventMessage, TokenRequest
from cnsmo.services.vpn.drivers import noop
from cnsmo.state import replica
from tests.eventually import eventually
from tests.joining import Door, own_facts

MESH = "deployment: shop\nvpn: {backbone: {cidr: 10.66.0.0/16, driver: noop}}"
START = Callable[..., threading.Thread]


class Place:
    """A machine's room: core, operator, and agents by name."""

    def __init__(self, conf: cfg.ConfigOpts, door: Door, path: Path, start: START) -> None:
        self.conf = conf
        self.door = door
        self.path = path
        self.start = start
        self.token = ""
        self.core = CoreServer(conf)
        self.core_runs = False
        self.agents: dict[str, AgentProcess] = {}
        self.threads: dict[str, threading.Thread] = {}
        self.ends: dict[str, BaseException | None] = {}
        self.operator = OperatorClient(conf, timeout=10)

    def start_core(self) -> None:
        self.core.start()
        self.core_runs = True

    def stop_core(self) -> None:
        self.core.stop()
        self.core_runs = False

    def settings(self, name: str, **more: Any) -> Settings:
        return dataclasses.replace(
            Settings(
                state_dir=StateDir(self.path / name, "all"),
                host=name,
                services=("vpn",),
                system=LocalSystem(),
                facts=lambda: own_facts(name),
                token=lambda: self.token,
                heartbeat=0.5,
                resync=60,
                rpc_timeout=0.5,
                retry_max=0.2,
                **dataclasses.asdict(self.door),
            ),
            **more,
        )

    def agent(self, name: str, **more: Any) -> AgentProcess:
        made = AgentProcess(self.conf, self.settings(name, **more))

        def run() -> None:
            try:
                made.run()
                self.ends[name] = None
            except BaseException as exc:  # noqa: BLE001  # for the test to look at
                self.ends[name] = exc

        self.ends.pop(name, None)
        self.agents[name] = made
        self.threads[name] = self.start(run)
        return made

    def stop_agent(self, name: str) -> None:
        self.agents.pop(name).stop()
        self.threads[name].join(30)
        assert self.ends[name] is None

    def state(self, name: str) -> tuple[str, str]:
        for host in self.operator.host_list("shop"):
            if host.name == name and host.agents:
                return host.agents[0].state, host.agents[0].reason
        return "", ""

    def ready(self, *names: str) -> None:
        for name in names:
            eventually(lambda name=name: self.state(name)[0] == "ready", what=f"{name} is ready")

    def desired(self, name: str) -> dict[str, Any] | None:
        """What the noop driver holds in force on a host."""
        path = self.path / name / "units" / "vpn" / "backbone" / "noop" / "desired.json"
        return json.loads(path.read_text()) if path.exists() else None

    def peers(self, name: str) -> list[str]:
        return [peer["host"] for peer in (self.desired(name) or {"peers": []})["peers"]]


@pytest.fixture
def place(conf: cfg.ConfigOpts, door: Door, tmp_path: Path, thread: START) -> Iterator[Place]:
    made = Place(conf, door, tmp_path, thread)
    yield made
    for agent in made.agents.values():
        agent.stop()
    for running in made.threads.values():
        running.join(30)
    if made.core_runs:
        made.core.stop()


@pytest.fixture
def shop(place: Place) -> Place:
    """A core with a deployment, a token and a mesh."""
    place.start_core()
    place.operator.deployment_create("shop")
    place.token = place.operator.token_create("shop", TokenRequest(uses=100)).token or ""
    place.operator.apply(MESH)
    return place


def test_agents_join_announce_and_are_ready(shop: Place) -> None:
    with Watch(shop.conf) as watch:
        shop.agent("web1")
        shop.agent("web2")
        told: list[EventMessage] = []
        wanted = {("agent.ready", "web1"), ("agent.ready", "web2")}
        while not wanted <= {(event.type, event.host) for event in told}:
            event = watch.next(30)
            assert event is not None, "silence"
            told.append(event)
    states = [event.type for event in told if event.host == "web1" and "agent." in event.type]
    assert states[0] == "agent.joining"
    assert states[-1] == "agent.ready"
    eventually(lambda: shop.peers("web1") == ["web2"] and shop.peers("web2") == ["web1"])


def test_a_change_is_in_force_everywhere_without_waiting_for_a_heartbeat(shop: Place) -> None:
    shop.agent("web1", heartbeat=60)
    shop.agent("web2", heartbeat=60)
    eventually(lambda: shop.peers("web1") == ["web2"] and shop.peers("web2") == ["web1"])
    shop.ready("web1", "web2")
    shop.operator.apply(MESH.replace("driver: noop", "driver: noop, mtu: 1300"))
    eventually(lambda: all((shop.desired(name) or {})["mtu"] == 1300 for name in ("web1", "web2")))


def test_a_lost_hint_costs_a_heartbeat(shop: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.agent("web1")
    shop.ready("web1")
    monkeypatch.setattr(shop.core.core.hinter, "notify", lambda *_hint, **_more: None)
    shop.operator.apply(MESH.replace("driver: noop", "driver: noop, mtu: 1300"))
    eventually(lambda: (shop.desired("web1") or {})["mtu"] == 1300)


def test_an_agent_that_started_before_the_core_joins_when_it_comes(
    shop: Place, caplog: pytest.LogCaptureFixture
) -> None:
    shop.stop_core()
    shop.agent("web1")
    eventually(lambda: "cannot join yet" in caplog.text)
    shop.start_core()
    shop.ready("web1")


def test_an_agent_without_a_valid_token_ends_and_says_so(shop: Place) -> None:
    shop.token = "t-1.guess"
    shop.agent("web1")
    eventually(lambda: "web1" in shop.ends)
    assert isinstance(shop.ends["web1"], Denied)
    assert "ask the operator for a new one" in str(shop.ends["web1"])


def test_a_second_host_of_the_same_name_ends_and_says_so(shop: Place) -> None:
    shop.agent("web1")
    shop.ready("web1")
    second = shop.settings("web1", state_dir=StateDir(shop.path / "elsewhere", "all"))
    with pytest.raises(Conflict, match="a host named 'web1' is already in deployment 'shop'"):
        AgentProcess(shop.conf, second).run()
    assert shop.state("web1")[0] == "ready"


def test_a_second_process_in_the_same_directory_ends_and_says_so(shop: Place) -> None:
    shop.agent("web1")
    shop.ready("web1")
    with pytest.raises(Conflict, match="another cnsmo-agent works in"):
        AgentProcess(shop.conf, shop.settings("web1")).run()


def test_an_agent_returns_to_its_last_state_when_the_core_is_away(shop: Place) -> None:
    shop.agent("web1")
    shop.agent("web2")
    eventually(lambda: shop.peers("web1") == ["web2"])
    shop.ready("web1")
    shop.stop_agent("web1")
    assert shop.peers("web1") == ["web2"], "what is in force outlives the agent"
    shop.stop_core()
    desired = shop.path / "web1/units/vpn/backbone/noop/desired.json"
    before = desired.read_text()
    desired.unlink()  # as a reboot does with an interface
    shop.agent("web1")
    eventually(desired.exists)
    assert desired.read_text() == before


def test_what_fails_at_a_start_without_the_core_is_tried_again_soon(
    shop: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.agent("web1")
    shop.ready("web1")
    shop.stop_agent("web1")
    shop.stop_core()
    apply, tries = noop.NoopDriver.apply, list[float]()

    def fail_twice(driver: noop.NoopDriver, desired: Any) -> list[str]:
        tries.append(time.monotonic())
        if len(tries) < 3:
            raise DriverError("the interface is not there yet")
        return apply(driver, desired)

    monkeypatch.setattr(noop.NoopDriver, "apply", fail_twice)
    (shop.path / "web1/units/vpn/backbone/noop/desired.json").unlink()
    shop.agent("web1", resync=3600)
    eventually(lambda: shop.desired("web1") is not None)
    assert len(tries) == 3


class AwayOnce:
    """A worker whose first round fails while a hint comes; the second one is its last."""

    look_at = inf

    def __init__(self, agent: AgentProcess) -> None:
        self.wakeup = agent._wakeup
        self.rounds: list[set[Reason]] = []

    def work(self, reasons: set[Reason]) -> None:
        self.rounds.append(set(reasons))
        self.wakeup.give(Reason.STOP if len(self.rounds) > 1 else Reason.SYNC)
        if len(self.rounds) == 1:
            raise Unavailable("no core answered sync in time")

    def look_after(self, due: bool = False) -> None:
        """What is in force stays so."""


def test_what_a_failed_round_owed_is_done_in_the_next_whatever_wakes_it(place: Place) -> None:
    agent = AgentProcess(place.conf, place.settings("web1"))
    worker: Any = AwayOnce(agent)
    place.settings("web1").state_dir.open()
    agent._loop(worker)
    assert worker.rounds == [{Reason.SYNC, Reason.REPORT}] * 2


def test_an_agent_looks_after_its_host_while_the_core_is_away(shop: Place) -> None:
    shop.agent("web1", resync=0.3)
    shop.ready("web1")
    shop.stop_core()
    desired = shop.path / "web1/units/vpn/backbone/noop/desired.json"
    desired.unlink()
    eventually(desired.exists)


def test_when_the_core_returns_everybody_agrees(shop: Place) -> None:
    shop.agent("web1")
    shop.ready("web1")
    shop.stop_core()
    time.sleep(0.6)  # the agent finds out
    shop.start_core()
    shop.operator.apply(MESH.replace("driver: noop", "driver: noop, mtu: 1300"))
    eventually(lambda: (shop.desired("web1") or {})["mtu"] == 1300)
    shop.agent("web2")
    eventually(lambda: shop.peers("web1") == ["web2"])
    shop.ready("web1", "web2")


def test_who_is_removed_takes_everything_down(shop: Place) -> None:
    shop.agent("web1")
    shop.agent("web2")
    eventually(lambda: shop.peers("web2") == ["web1"])
    shop.operator.host_remove("shop", "web1")
    eventually(lambda: "web1" in shop.ends)
    assert isinstance(shop.ends["web1"], Removed)
    left = [path.name for path in (shop.path / "web1").rglob("*") if path.is_file()]
    assert sorted(left) == ["agents.lock", "all.lock", "notice-all.json", "removed"]
    eventually(lambda: shop.peers("web2") == [])


def test_who_was_removed_comes_back_only_with_another_token(shop: Place) -> None:
    shop.agent("web1")
    shop.ready("web1")
    shop.operator.host_remove("shop", "web1")
    eventually(lambda: "web1" in shop.ends)
    with pytest.raises(Removed, match="To let it join anew, give it another token"):
        AgentProcess(shop.conf, shop.settings("web1")).run()
    assert shop.operator.host_list("shop") == []
    shop.token = shop.operator.token_create("shop", TokenRequest()).token or ""
    shop.agent("web1")
    shop.ready("web1")


def test_who_leaves_takes_everything_down_and_its_name_is_free(shop: Place) -> None:
    shop.agent("web1")
    shop.ready("web1")
    shop.stop_agent("web1")
    assert AgentProcess(shop.conf, shop.settings("web1")).leave() == []
    assert shop.desired("web1") is None
    assert shop.operator.host_list("shop") == []
    assert AgentProcess(shop.conf, shop.settings("web1")).leave() == [], "nothing left to leave"
    shop.agent("web1")
    shop.ready("web1")


def test_who_leaves_says_what_it_leaves_to_other_processes(shop: Place) -> None:
    role = StateDir(shop.path / "web1", "vpn")
    shop.agent("web1", state_dir=role)
    shop.ready("web1")
    shop.stop_agent("web1")
    (shop.path / "web1/units/firewall/perimeter/noop").mkdir(parents=True)
    (said,) = AgentProcess(shop.conf, shop.settings("web1", state_dir=role)).leave()
    assert said.startswith("firewall: its units are still here: its own process takes them down")
    assert AgentProcess(shop.conf, shop.settings("web1")).leave(teardown_only=True) == []
    assert not (shop.path / "web1/units/firewall/perimeter/noop").exists()
    assert not (shop.path / "web1/identity.json").exists()


def test_without_an_identity_what_is_still_here_is_told(shop: Place) -> None:
    (shop.path / "web1/units/vpn/backbone/noop").mkdir(parents=True)
    assert AgentProcess(shop.conf, shop.settings("web1")).leave(teardown_only=True) == [
        "vpn: its units are still here: identity.json, which says whose they are, is gone"
    ]


def test_a_host_of_a_deleted_deployment_stays_up_until_it_is_told_to_tear_down(
    shop: Place,
) -> None:
    shop.agent("web1")
    shop.ready("web1")
    shop.core.core.store.delete("shop")
    time.sleep(1.0)  # the agent is denied, again and again
    assert shop.desired("web1") is not None
    shop.stop_agent("web1")
    with pytest.raises(Denied):
        AgentProcess(shop.conf, shop.settings("web1")).leave()
    assert shop.desired("web1") is not None
    assert AgentProcess(shop.conf, shop.settings("web1")).leave(teardown_only=True) == []
    assert shop.desired("web1") is None


def test_drift_is_repaired_at_the_next_resync_and_reported(shop: Place) -> None:
    shop.agent("web1", resync=0.3)
    shop.ready("web1")
    with Watch(shop.conf) as watch:
        (shop.path / "web1/units/vpn/backbone/noop/desired.json").unlink()
        told = []
        while "agent.ready" not in told:
            event = watch.next(30)
            assert event is not None, told
            told.append(event.type)
            if event.type == "agent.degraded":
                assert event.message == "drift was repaired: backbone: remembered"
    assert told == ["agent.degraded", "agent.ready"]


def test_a_driver_that_fails_is_an_error_until_it_works(
    shop: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_driver: noop.NoopDriver, _desired: object) -> list[str]:
        raise RuntimeError("no such luck")

    with monkeypatch.context() as patched:
        patched.setattr(noop.NoopDriver, "apply", fail)
        shop.agent("web1")
        eventually(
            lambda: (
                shop.state("web1") == ("error", "backbone: unforeseen RuntimeError: no such luck")
            )
        )
    shop.ready("web1")


def test_a_full_pool_is_an_error_on_the_host_that_got_no_address(shop: Place) -> None:
    shop.operator.apply(MESH.replace("/16", "/30"))
    shop.agent("web1")
    shop.ready("web1")
    shop.agent("web2")
    shop.ready("web2")
    shop.agent("web3")
    eventually(lambda: shop.state("web3")[0] == "error")
    assert "no address is left in 10.66.0.0/30" in shop.state("web3")[1]
    assert [shop.state(name)[0] for name in ("web1", "web2")] == ["ready", "ready"]
    shop.operator.apply(MESH)
    shop.ready("web3")


def test_a_full_disk_degrades_and_does_not_stop_the_agent(
    shop: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.agent("web1", resync=0.3)
    shop.ready("web1")
    saved = (shop.path / "web1/replica-all.json").read_text()

    def full(_replica: replica.Replica) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(replica.Replica, "save", full)
        shop.operator.apply(MESH.replace("driver: noop", "driver: noop, mtu: 1300"))
        eventually(lambda: shop.state("web1")[0] == "degraded")
        assert shop.state("web1")[1] == (
            "the replica cannot be written to disk: No space left on device"
        )
        assert (shop.desired("web1") or {})["mtu"] == 1300
        assert (shop.path / "web1/replica-all.json").read_text() == saved
    shop.ready("web1")
    assert (shop.path / "web1/replica-all.json").read_text() != saved


def test_a_damaged_replica_is_fetched_anew(shop: Place) -> None:
    shop.agent("web1")
    shop.ready("web1")
    shop.stop_agent("web1")
    path = shop.path / "web1/replica-all.json"
    path.write_text(path.read_text()[50:])
    shop.agent("web1")
    eventually(lambda: path.exists() and (shop.path / "web1/replica-all.damaged").exists())
    shop.ready("web1")
    assert shop.desired("web1") is not None


def test_a_look_of_the_operator_brings_fresh_observations(shop: Place) -> None:
    shop.agent("web1")
    shop.ready("web1")

    def observed_at() -> float:
        asked = time.monotonic()
        (host,) = shop.operator.host_list("shop")
        return asked - (host.agents[0].observed_age or 0.0)

    looked = time.monotonic()
    shop.operator.look("shop")
    eventually(lambda: observed_at() > looked)


def test_facts_that_change_are_told_at_the_next_resync(shop: Place) -> None:
    site = ["east"]
    shop.agent("web1", resync=0.3, facts=lambda: HostFacts(site=site[0]))
    shop.ready("web1")
    site[0] = "west"
    eventually(lambda: shop.operator.host_list("shop")[0].facts.site == "west")


def test_a_vpn_that_is_not_declared_any_more_is_taken_down(shop: Place) -> None:
    shop.agent("web1")
    shop.ready("web1")
    shop.operator.apply("deployment: shop\n")
    eventually(lambda: shop.desired("web1") is None)
    eventually(lambda: not (shop.path / "web1/units/vpn/backbone/noop").exists())
    shop.ready("web1")


def test_two_processes_serve_one_host_service_by_service(shop: Place) -> None:
    role = StateDir(shop.path / "web1", "vpn")
    shop.agent("web1", state_dir=role)
    shop.ready("web1")
    assert (shop.path / "web1" / "replica-vpn.json").exists()
