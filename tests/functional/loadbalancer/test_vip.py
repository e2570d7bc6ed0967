# SPDX-License-Identifier: Apache-2.0
"""An address that one of several carriers holds, as its clients see it."""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from oslo_config import cfg

from cnsmo.agent.facts import gather
from cnsmo.model.errors import DriverError
from cnsmo.services.loadbalancer.desired import Bind, LoadBalancerDesired, Vip
from cnsmo.services.loadbalancer.drivers import vrrp_render
from tests.eventually import eventually
from tests.functional.loadbalancer.hap_scene import Counted, Scene, Site, desired
from tests.functional.vpn.systems import Killed, Recorder, Saboteur
from tests.functional.vpn.vms import Net, Vm
from tests.unit.services.loadbalancer.scenes import BALANCER, balancer, host, view

VIP, VIP6 = "10.9.0.100", "fd09::100"
GAP_SECONDS = 2.0
MISSED = 4
"""So many adverts after which one that may take over has done so."""
CLIENT = {"address": VIP, "timeout": 0.3, "kept": 0, "fresh": 2, "pause": 0.02}


class Pair:
    """Two carriers of one load balancer; the first is the one that shall hold the VIP."""

    def __init__(self, net: Net, folder: Path) -> None:
        self.site = Site(net, folder, carriers=2)
        self.scenes = [Scene(self.site, folder, carrier=it) for it in range(2)]
        self.first, self.second = self.scenes
        self.site.serve(1)

    def desired(self, number: int, address: str = f"{VIP}/24", **other: object) -> (
        LoadBalancerDesired
    ):  # fmt: skip
        sources = [self.site.net.address(f"lb{it}", 6 if ":" in address else 4) for it in (1, 2)]
        vip = Vip(
            address, sources[number], (sources[1 - number],), router=51, priority=(200, 100)[number]
        )
        servers = self.first.servers(1)
        return desired(*servers, **{"vip": vip, "binds": (Bind(address[:-3], 80),), **other})

    def up(self, address: str = f"{VIP}/24") -> None:
        """Both carry it, and the first one holds it."""
        for number, scene in enumerate(self.scenes):
            scene.apply(self.desired(number, address))
        eventually(lambda: any(self.holders(address)))
        if not self.holders(address)[0]:  # who has it keeps it
            self.second.apply(dataclasses.replace(self.desired(1, address), vip=None))
            eventually(lambda: self.holders(address)[0])
            self.second.apply(self.desired(1, address))
        eventually(lambda: self.holders(address) == [True, False], what="the first holds the VIP")

    def holders(self, address: str = f"{VIP}/24") -> list[bool]:
        """Who says to hold it."""
        return [
            bool(scene.observe(self.desired(number, address)).detail["vip"])
            for number, scene in enumerate(self.scenes)
        ]

    def log(self, number: int) -> str:
        return (self.scenes[number].state_dir / "keepalived.log").read_text()

    def works(self, address: str = f"{VIP}/24") -> bool:
        return bool(self.first.ask(address=address[:-3], timeout=1)["status"] == 200)


def made(folder: Path) -> Iterator[Pair]:
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces")
    net = Net()
    try:
        yield Pair(net, folder)
    finally:
        net.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    yield from made(tmp_path_factory.mktemp("pair"))


@pytest.fixture
def pair(shared: Pair) -> Pair:
    """Both carriers are there, and the first one holds the VIP."""
    shared.up()
    return shared


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Pair]:
    """A pair of a test's own, which may not survive it."""
    yield from made(tmp_path)


@contextlib.contextmanager
def heard(carrier: Vm, what: str = "ip protocol vrrp", then: str = "accept") -> (
    Iterator[Callable[[], int]]
):  # fmt: skip
    """How many of the other's adverts have arrived since then; and what becomes of them."""
    carrier.run("nft add table inet heard")
    carrier.run("nft add counter inet heard adverts")
    carrier.run("nft add chain inet heard in { type filter hook input priority 0 ; }")
    carrier.run(f"nft add rule inet heard in {what} counter name adverts {then}")
    shown = "nft -j list counter inet heard adverts"
    try:
        yield lambda: int(carrier.json(shown)["nftables"][-1]["counter"]["packets"])
    finally:
        carrier.run("nft delete table inet heard")


def bridged(counted: list[Counted]) -> bool:
    """Whether clients were answered again in time."""
    (found,) = counted
    assert found.by["web1"] >= 4
    return found.gap <= GAP_SECONDS


@pytest.mark.parametrize("address", [f"{VIP}/24", f"{VIP6}/64"])
def test_the_vip_is_handed_over_when_its_carrier_is_gone(mortal: Pair, address: str) -> None:
    mortal.up(address)
    there, wanted = mortal.second, mortal.desired(1, address)
    options = {**CLIENT, "address": address[:-3]}
    with mortal.first.load(**options) as counted:
        eventually(lambda: mortal.works(address))
        mortal.first.carrier.stop()
        eventually(lambda: there.observe(wanted).detail["vip"], timeout=10)
        eventually(lambda: mortal.works(address), timeout=10)
    assert bridged(counted), counted


@pytest.mark.parametrize("how", ["KILL", "STOP"])
def test_a_carrier_whose_haproxy_does_not_answer_gives_the_vip_up(pair: Pair, how: str) -> None:
    """Nobody tells it: no agent is there. STOP: it is there, and hangs."""
    with pair.first.load(**CLIENT) as counted:
        eventually(pair.works)
        pair.first.carrier.run(f"pkill -{how} -x haproxy")
        eventually(lambda: pair.second.observe(pair.desired(1)).detail["vip"], timeout=10)
        eventually(pair.works, timeout=10)
    assert how == "STOP" or bridged(counted), counted
    if how == "STOP":
        pair.first.carrier.run("pkill -CONT -x haproxy")


def test_who_comes_back_does_not_take_the_vip_from_who_has_it(pair: Pair) -> None:
    pair.first.carrier.run("pkill -KILL -x haproxy")
    eventually(lambda: pair.holders() == [False, True], timeout=10)
    eventually(pair.works)
    with pair.first.load(**CLIENT) as counted:
        assert pair.first.fresh().apply(pair.desired(0)) == ["haproxy: started"]
        eventually(lambda: pair.log(0).rstrip().endswith("Entering BACKUP STATE"), timeout=10)
        with heard(pair.first.carrier) as adverts:
            eventually(lambda: adverts() >= 2 * MISSED, timeout=10)
        assert pair.holders() == [False, True]
    assert counted[0].lost == {}, counted
    pair.second.carrier.run("pkill -KILL -x haproxy")
    eventually(lambda: pair.holders()[0], timeout=10)
    pair.second.fresh().apply(pair.desired(1))


def test_who_begins_waits_for_its_tunnels_before_it_takes_the_vip(mortal: Pair) -> None:
    """The backup was rebooted, and its first handshake is lost."""
    wanted = [mortal.desired(number) for number in range(2)]
    for number, scene in enumerate(mortal.scenes):
        scene.carrier.run(f"ip link add cn-b type vxlan id 7 dstport 4789 dev eth0 "
                          f"remote {mortal.site.net.address(f'lb{2 - number}')}")  # fmt: skip
        scene.carrier.run(f"ip address add 10.66.0.{number + 1}/24 dev cn-b")
        scene.carrier.run("ip link set cn-b up")
        inside = dataclasses.replace(
            wanted[number].vip or pytest.fail("no VIP"),
            source=f"10.66.0.{number + 1}", peers=(f"10.66.0.{2 - number}",),
        )  # fmt: skip
        wanted[number] = dataclasses.replace(wanted[number], vip=inside)
    mortal.first.apply(wanted[0])
    eventually(lambda: mortal.first.observe(wanted[0]).detail["vip"], timeout=15)
    with heard(mortal.second.carrier, "udp dport 4789", "drop") as lost:
        mortal.second.apply(wanted[1])
        eventually(lambda: lost() >= 3 * MISSED, timeout=10)
    with heard(mortal.second.carrier) as adverts:
        eventually(lambda: adverts() >= 6 * MISSED, timeout=20)
    assert "MASTER" not in mortal.log(1)
    mortal.first.carrier.stop()
    eventually(lambda: mortal.second.observe(wanted[1]).detail["vip"], timeout=10)


def test_killed_at_any_step_it_is_finished_by_the_next_process(pair: Pair) -> None:
    scene, wanted = pair.first, pair.desired(0)
    for allowed in range(60):
        if allowed % 2:
            scene.fresh().remove()
        saboteur = Saboteur(scene.carrier.system, allowed, Killed, after=True)
        with contextlib.suppress(Killed):
            scene.fresh(saboteur).apply(wanted)
        if not saboteur.struck and allowed % 2:
            break
        scene.fresh()
        scene.apply(wanted)
        assert scene.apply(wanted) == []
        assert sum("keepalived" in it for it in lasting(scene)) == 2
        assert sum("haproxy -W" in it for it in lasting(scene)) == 2
    else:
        pytest.fail("never got to the end")
    eventually(lambda: sum(pair.holders()) == 1)


def test_removing_hands_over_at_once_and_leaves_nothing(pair: Pair) -> None:
    with pair.first.load(**CLIENT) as counted:
        eventually(pair.works)
        pair.first.fresh().remove()
        eventually(lambda: pair.second.observe(pair.desired(1)).detail["vip"], timeout=10)
        eventually(pair.works)
    assert bridged(counted), counted
    assert not pair.first.state_dir.exists()
    eventually(lambda: not pair.first.carrier.processes(), what="an empty carrier")
    assert VIP not in pair.first.carrier.run("ip address show")


def lasting(scene: Scene) -> list[str]:
    """Processes without those by which keepalived looks after haproxy."""
    return [it for it in scene.carrier.processes() if "alive.py" not in it]


def test_keepalived_outlives_its_agent_and_is_adopted(pair: Pair) -> None:
    wanted, scene = pair.desired(0), pair.first
    processes = lasting(scene)
    recorder = Recorder(scene.carrier.system)
    scene.fresh(recorder)
    assert scene.apply(wanted) == []
    assert [it for it in recorder.changing if it[0] != "id"] == []
    assert lasting(scene) == processes
    structure = dataclasses.replace(wanted, max_connections=1000)
    assert scene.apply(structure)
    assert pair.holders() == [True, False]


DRIFTS: dict[str, Callable[[Scene], object]] = {
    "killed": lambda it: it.carrier.run("pkill -KILL -o -x keepalived"),
    "ended": lambda it: it.carrier.run("pkill -TERM -o -x keepalived"),
    "file edited": lambda it: (it.state_dir / "keepalived.conf").write_text("nonsense"),
    "not loaded": lambda it: (it.state_dir / "keepalived.loaded").unlink(),
}


@pytest.mark.parametrize("drift", sorted(DRIFTS))
def test_drift_is_seen_told_and_repaired(pair: Pair, drift: str) -> None:
    wanted, scene = pair.desired(0), pair.first
    DRIFTS[drift](scene)
    eventually(lambda: scene.observe(wanted).drift)
    assert scene.apply(wanted)
    assert scene.apply(wanted) == []
    assert scene.observe(wanted).drift == ()
    eventually(lambda: sum(pair.holders()) == 1)
    eventually(pair.works)


def test_a_change_of_who_shall_hold_it_waits_until_its_holder_gives_it_up(pair: Pair) -> None:
    swapped = []
    for number, scene in enumerate(pair.scenes):
        wanted = pair.desired(number)
        assert wanted.vip
        vip = dataclasses.replace(wanted.vip, priority=(50, 100)[number])
        swapped.append(dataclasses.replace(wanted, vip=vip))
        assert scene.apply(swapped[-1]) in ([], ["keepalived: reloaded"])
    with heard(pair.second.carrier) as adverts:
        eventually(lambda: adverts() >= 2 * MISSED, timeout=10)
    assert pair.holders() == [True, False]
    without = dataclasses.replace(swapped[0], vip=None)
    assert pair.first.apply(without) == ["keepalived: stopped"]
    assert pair.first.observe(without).drift == ()
    eventually(lambda: pair.second.observe(swapped[1]).detail["vip"])
    eventually(pair.works)
    assert not [it for it in pair.first.carrier.processes() if "keepalived" in it]


def test_a_carrier_that_is_alone_holds_the_vip_and_shares_it_with_the_next(mortal: Pair) -> None:
    first, second = mortal.scenes
    both = [mortal.desired(0), mortal.desired(1)]
    alone = [dataclasses.replace(it, vip=lonely(it.vip)) for it in both]
    first.apply(alone[0])
    eventually(lambda: first.observe(alone[0]).detail["vip"])
    assert first.observe(alone[0]).problems == ()
    with first.load(**CLIENT) as counted:
        eventually(mortal.works)
        for scene, wanted in zip(mortal.scenes, both, strict=True):
            scene.apply(wanted)
        eventually(lambda: mortal.holders() == [True, False])
        first.fresh().remove()  # its host leaves the group
        second.apply(alone[1])
        eventually(lambda: second.observe(alone[1]).detail["vip"])
        eventually(mortal.works)
    assert bridged(counted), counted


def lonely(vip: Vip | None) -> Vip:
    assert vip
    return dataclasses.replace(vip, peers=())


def test_who_holds_the_vip_does_not_take_it_for_its_own_address(
    mortal: Pair, conf: cfg.ConfigOpts
) -> None:
    """Its agent tells the same of the host as before, so that the next plan is taken as well."""
    for scene in mortal.scenes:
        scene.carrier.run("ip route add default via 10.9.0.254 dev eth0")
    before = [gather(conf, scene.carrier.system) for scene in mortal.scenes]
    assert [facts.private for facts in before] == [("10.9.0.1/24",), ("10.9.0.2/24",)]
    mortal.up()
    for _resync in range(2):
        now = [gather(conf, scene.carrier.system) for scene in mortal.scenes]
        assert now == before
    hosts = [host(f"lb{at}", "edge", private=own.private) for at, own in enumerate(now)]
    assert BALANCER.check(view([*hosts, balancer(pool={"group": "edge", "port": 1},
                                                 vip=f"{VIP}/24")])) == []  # fmt: skip
    assert mortal.works()
    mortal.first.fresh().remove()
    eventually(lambda: mortal.holders()[1], timeout=10)
    assert [gather(conf, scene.carrier.system) for scene in mortal.scenes] == before


def test_a_vip_of_ipv6_is_nobodys_own_address_either(mortal: Pair) -> None:
    """Agents pass over what is deprecated: no connection begins there."""
    mortal.up(f"{VIP6}/64")
    own = mortal.first.carrier.run("ip -6 address show dev eth0 scope global -deprecated")
    assert "fd09::1/64" in own
    assert VIP6 not in own


def test_a_vip_without_a_place_is_told(pair: Pair) -> None:
    wanted = pair.desired(0, "192.0.2.100/24")
    assert "keepalived: stopped" in pair.first.apply(wanted)
    (problem,) = pair.first.observe(wanted).problems
    assert problem == "no interface of this host is in the network of the VIP 192.0.2.100/24"
    assert pair.first.observe(wanted).drift == ()


def test_what_keepalived_refuses_never_replaces_what_runs(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, wanted = pair.first, pair.desired(0)
    file = (scene.state_dir / "keepalived.conf").read_text()
    monkeypatch.setattr(vrrp_render, "ADVERTS", "soon")
    with pytest.raises(DriverError, match="keepalived refuses the configuration"):
        scene.apply(wanted)
    assert (scene.state_dir / "keepalived.conf").read_text() == file
    monkeypatch.undo()
    assert scene.apply(wanted) == []
    assert pair.holders() == [True, False]
