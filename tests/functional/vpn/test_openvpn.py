# SPDX-License-Identifier: Apache-2.0
"""OpenVPN for real: the contract of all VPN drivers, and what is special about a hub."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cnsmo.model.errors import DriverError, DriverUnavailable
from cnsmo.services.base import Completed
from cnsmo.services.vpn.drivers.certificate import Certificates
from cnsmo.services.vpn.drivers.openvpn import OpenvpnDriver
from cnsmo.services.vpn.drivers.openvpn_management import Management
from tests.functional.vpn.contract import IF, LINK_DRIFTS, VpnDriverContract, end_pings, void
from tests.functional.vpn.hub import (
    HUB,
    TCP,
    Deploy,
    assert_all_reach_all,
    deployments,
    sessions,
)
from tests.functional.vpn.systems import Recorder


class TestOpenvpn(VpnDriverContract):
    driver = OpenvpnDriver
    spec = HUB
    groups = {"one": ("hub",)}
    drifts = {
        **LINK_DRIFTS,
        "interface deleted": lambda vm, dev: void(vm.run(f"ip link delete {dev}")),
    }
    daemon = "openvpn"
    everybody_hears = False

    def secrets(self, state_dir: Path) -> list[str]:
        text = (state_dir / "certificates.json").read_text()
        found = Certificates.model_validate_json(text)
        every = [found.current, *([found.next] if found.next else [])]
        return [line for one in every for line in one.key.splitlines()[1:-1]]


deploy = pytest.fixture(deployments)


# --- what carries it --------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [HUB, TCP], ids=["udp", "tcp443"])
@pytest.mark.parametrize("version", [4, 6], ids=["over4", "over6"])
def test_spokes_reach_each_other_through_the_hub(
    deploy: Deploy, spec: Mapping[str, Any], version: int
) -> None:
    shop = deploy("one", "two", "three", "four", spec=spec, version=version)
    shop.converge()
    assert_all_reach_all(shop, "one", "two", "three", "four")
    protocol, port = ("tcp", 443) if spec is TCP else ("udp", 51820)
    listening = shop.net.vms["one"].run(f"ss -Hln --{protocol} sport = :{port}")
    assert f":{port}" in listening
    assert shop.drivers["one"].observe(shop.desired("one")).problems == ()


def test_a_member_comes_and_goes_over_tcp_without_a_word_to_the_others(deploy: Deploy) -> None:
    shop = deploy("one", "two", "three", spec=TCP)
    shop.converge()
    assert_all_reach_all(shop, "one", "two", "three")
    before = sessions(shop)["two"]
    shop.leave("three")
    shop.apply("one")
    assert shop.net.vms["three"].ping(shop.vpn_address("one"), count=2, wait=1).received == 0
    shop.join("four")
    shop.drivers.pop("three")
    shop.converge()
    assert_all_reach_all(shop, "one", "two", "four")
    assert sessions(shop)["two"] == before


def test_chacha20_is_used_when_asked_for(deploy: Deploy) -> None:
    spec = {**HUB, "driver_options": {"cipher": "CHACHA20-POLY1305"}}
    shop = deploy("one", "two", spec=spec)
    shop.converge()
    assert_all_reach_all(shop, "one", "two")
    with Management(shop.state_dir("one")) as management:
        assert "CHACHA20-POLY1305" in "".join(management._ask("status 3"))


def test_ipv6_alone_inside_the_tunnel(deploy: Deploy) -> None:
    shop = deploy("one", "two", "three", spec={**HUB, "cidr": "fd66::/64"})
    shop.converge()
    assert shop.net.vms["two"].reaches(shop.vpn_address("three", 6))


def test_a_subnet_behind_a_spoke_is_reached_from_another(deploy: Deploy) -> None:
    routes = [{"subnet": net, "via": "three"} for net in ("192.168.7.0/24", "fd77::/64")]
    shop = deploy("one", "two", "three", spec={**HUB, "routes": routes})
    gateway = shop.net.vms["three"]
    gateway.run("ip link add lan0 type veth peer name lan1")
    gateway.run("ip address add 192.168.7.1/24 dev lan0")
    gateway.run("ip address add fd77::1/64 dev lan0 nodad")
    for side in ("lan0", "lan1"):
        gateway.run(f"ip link set {side} up")
    shop.converge()
    for source in ("one", "two"):
        assert shop.net.vms[source].reaches("192.168.7.1")
        assert shop.net.vms[source].reaches("fd77::1")
    shop.declare({**HUB, "routes": []})
    assert shop.apply("one")
    assert shop.apply("two")
    assert shop.net.vms["two"].ping("192.168.7.1", count=2, wait=1).received == 0
    assert_all_reach_all(shop, "one", "two", "three")


# --- hubs -------------------------------------------------------------------------------------


def test_a_mesh_is_refused(deploy: Deploy) -> None:
    shop = deploy("one", "two", spec={"cidr": "10.66.0.0/24"}, hubs=())
    for name in shop.drivers:
        shop.announce(name)
    with pytest.raises(DriverError, match="topology: hub"):
        shop.apply("two")


def test_spokes_wait_for_a_hub_that_joins_later(deploy: Deploy) -> None:
    shop = deploy("two", "three")
    shop.converge()
    assert shop.apply("two") == []
    seen = shop.drivers["two"].observe(shop.desired("two"))
    assert seen.drift == ()
    assert seen.detail["state"] == "down"
    shop.join("one", ("hub",))
    shop.converge()
    assert_all_reach_all(shop, "one", "two", "three")


def test_a_second_hub_is_a_spoke_until_it_has_to_take_over(deploy: Deploy) -> None:
    shop = deploy("four", "one", "three", "two", hubs=("one", "four"))
    shop.converge()
    assert_all_reach_all(shop, "one", "two", "three", "four")
    shop.leave("four")
    shop.drivers.pop("four").remove()
    started = time.monotonic()
    shop.converge()
    assert_all_reach_all(shop, "one", "two", "three")
    print(f"fail-over of three hosts: {time.monotonic() - started:.1f} s")


# --- faults -----------------------------------------------------------------------------------


def test_a_killed_hub_is_replaced_and_everybody_comes_back(deploy: Deploy) -> None:
    shop = deploy("one", "two", "three")
    shop.converge()
    assert_all_reach_all(shop, "one", "two", "three")
    shop.net.vms["one"].run("pkill -KILL -x openvpn")
    killed = time.monotonic()
    assert shop.drivers["one"].observe(shop.desired("one")).drift
    assert shop.apply("one")
    assert shop.net.vms["two"].reaches(shop.vpn_address("three"), within=25)
    print(f"back after the hub was killed: {time.monotonic() - killed:.1f} s")
    assert shop.apply("one") == []


def test_a_port_that_is_taken_leaves_the_old_one_working(deploy: Deploy) -> None:
    shop = deploy("one", "two", "three", spec={**HUB, "driver_options": {"protocol": "tcp"}})
    shop.converge()
    assert_all_reach_all(shop, "one", "two", "three")
    hub = shop.net.vms["one"]
    occupied = hub.spawn("python3 -m http.server 443")
    while ":443" not in hub.run("ss -Hltn"):
        time.sleep(0.05)
    desired = shop.desired("one")
    shop.declare(TCP)
    with pytest.raises(DriverError, match="Address already in use"):
        shop.apply("one")
    assert shop.drivers["one"].observe(desired).drift == ()
    assert_all_reach_all(shop, "one", "two", "three")
    hub.run("pkill -KILL -x python3")
    occupied.communicate()
    assert shop.apply("one")
    shop.converge()
    assert_all_reach_all(shop, "one", "two", "three")


def test_a_changed_configuration_file_is_drift(deploy: Deploy) -> None:
    shop = deploy("one", "two")
    shop.converge()
    config = shop.state_dir("two") / "openvpn.conf"
    config.write_text(config.read_text() + "verb 3\n")
    assert shop.drivers["two"].observe(shop.desired("two")).drift == (
        "openvpn runs with another configuration",
    )
    assert shop.apply("two") == ["openvpn: started anew"]
    assert shop.apply("two") == []
    assert_all_reach_all(shop, "one", "two")


def test_a_changed_mtu_needs_no_restart(deploy: Deploy) -> None:
    shop = deploy("one", "two")
    shop.converge()
    shop.declare({**HUB, "mtu": 1300})
    for name in ("one", "two"):
        assert shop.apply(name) == [f"{IF}: MTU 1300"]


def test_a_large_log_is_emptied(deploy: Deploy) -> None:
    shop = deploy("one", "two")
    shop.converge()
    log = shop.state_dir("one") / "openvpn.log"
    with log.open("a") as file:
        file.write("x" * (1 << 21))
    assert shop.apply("one") == []
    shop.net.vms["two"].run("pkill -KILL -x openvpn")
    shop.apply("two")
    assert 0 < log.stat().st_size < 1 << 16
    assert "\0" not in log.read_text()


# --- certificates -----------------------------------------------------------------------------


@pytest.mark.parametrize(("who", "most"), [("one", 3.0), ("two", 1.0)], ids=["hub", "spoke"])
def test_a_certificate_is_replaced_and_the_gap_is_short(
    deploy: Deploy, who: str, most: float
) -> None:
    """The others know the next certificate before it is used; seconds."""
    shop = deploy("one", "two", "three")
    shop.converge()
    assert_all_reach_all(shop, "one", "two", "three")
    old = shop.announce(who)
    shop.rotate()
    vm = shop.net.vms["two"]
    pings = vm.spawn(f"ping -n -i 0.1 -w 60 {shop.vpn_address('three')}")
    announced = shop.announce(who)
    assert announced["fingerprint"] == old["fingerprint"]
    following = announced["next_fingerprint"]
    for name in shop.drivers:
        shop.apply(name)
    assert shop.announce(who, confirmed=True) == announced
    assert shop.apply(who) == []  # nothing was repaired
    assert shop.drivers[who].observe(shop.desired(who)).again
    new = shop.announce(who)
    assert shop.drivers[who].observe(shop.desired(who)).again is None
    assert new["fingerprint"] == following
    assert "next_fingerprint" not in new
    for name in shop.drivers:
        shop.apply(name)
    assert_all_reach_all(shop, "one", "two", "three")
    lost = end_pings(vm, pings).lost * 0.1
    print(f"gap while the certificate of {who} was replaced: {lost:.1f} s")
    assert lost <= most
    text = "".join(path.read_text() for path in shop.state_dir(who).glob("*.json"))
    assert text.count("PRIVATE KEY") == 2  # one key: its first line and its last


# --- what it needs ----------------------------------------------------------------------------


class Lacking(Recorder):
    """A machine without a program, or with one of which ``--version`` says something else."""

    lacks = ""
    version = ""

    def has(self, program: str) -> bool:
        return program != self.lacks and super().has(program)

    def run(self, *args: str, **kwargs: Any) -> Completed:
        done = super().run(*args, **kwargs)
        said = self.version if args[-1] == "--version" and self.version else done.stdout
        return Completed(args, int(args[0] == "test" and self.lacks == args[-1]), said, "")


@pytest.mark.parametrize(
    ("lacks", "version", "said"),
    [
        ("openvpn", "", "install the package openvpn"),
        ("ip", "", "install the package iproute2"),
        ("/dev/net/tun", "", "load the module tun"),
        ("", "OpenVPN 2.5.9 x86_64-pc-linux-gnu", "OpenVPN 2.5 is too old"),
        ("", "something else", "version 2.6 or later"),
    ],
)
def test_what_is_missing_is_named(deploy: Deploy, lacks: str, version: str, said: str) -> None:
    shop = deploy("one")
    system = Lacking(shop.net.vms["one"].system)
    system.lacks, system.version = lacks, version
    driver = shop.restart("one", lambda _system: system)
    with pytest.raises(DriverUnavailable, match=said):
        driver.check()
