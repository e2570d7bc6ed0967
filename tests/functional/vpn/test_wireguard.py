# SPDX-License-Identifier: Apache-2.0
"""The WireGuard driver between network namespaces, with wireguard-go (or the kernel's)."""

import json
import time
from pathlib import Path

import pytest

from cnsmo.model.errors import DriverError, DriverUnavailable
from cnsmo.services.vpn.drivers import wg_plan
from cnsmo.services.vpn.drivers.wireguard import WireguardDriver
from tests.functional.vpn.contract import (
    IF,
    LINK_DRIFTS,
    VpnDriverContract,
    end_pings,
    void,
)
from tests.functional.vpn.deployment import Deployment
from tests.functional.vpn.vms import Net, Vm

STRANGER = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="


def wg(vm: Vm, args: str) -> None:
    """Run ``wg set`` on the VPN's interface; FIRST is the first peer's key."""
    first = vm.run(f"wg show {IF} peers").split()[0]
    vm.run(f"wg set {IF} {args.replace('FIRST', first)}")


class TestWireguard(VpnDriverContract):
    driver = WireguardDriver
    daemon = "wireguard-go"
    drifts = {
        **LINK_DRIFTS,
        "peer removed": lambda vm, _dev: wg(vm, "peer FIRST remove"),
        "stranger is a peer": lambda vm, _dev: wg(vm, f"peer {STRANGER} allowed-ips 10.66.0.77/32"),
        "stranger took allowed IPs": lambda vm, _dev: wg(
            vm, f"peer {STRANGER} allowed-ips 10.66.0.1/32,fd66::1/128"
        ),
        "more allowed IPs": lambda vm, _dev: wg(vm, "peer FIRST allowed-ips 0.0.0.0/0"),
        "port changed": lambda vm, _dev: wg(vm, "listen-port 7777"),
        "fwmark set": lambda vm, _dev: wg(vm, "fwmark 0x7"),
        "keepalive set": lambda vm, _dev: wg(vm, "peer FIRST persistent-keepalive 77"),
        "private key taken": lambda vm, _dev: wg(vm, "private-key /dev/null"),
        "interface deleted": lambda vm, dev: void(vm.run(f"ip link delete {dev}")),
    }

    def secrets(self, state_dir: Path) -> list[str]:
        keys = json.loads((state_dir / "keys.json").read_text())
        return [key["private"] for key in keys.values() if key]

    # --- keys -----------------------------------------------------------------------------

    @pytest.mark.parametrize("delay", [0.0, 0.7], ids=["at once", "after 0.7 s"])
    def test_a_new_key_costs_no_ping(self, mesh: Deployment, delay: float) -> None:
        """delay: seconds until the others hear of it; packets wait so long, none is lost."""
        pings = {
            (source, target): mesh.net.vms[source].spawn(
                f"ping -n -i 0.1 -w 60 {mesh.vpn_address(target)}"
            )
            for source, target in (("two", "one"), ("one", "two"), ("three", "one"))
        }
        old = mesh.announce("one")["public_key"]
        mesh.rotate()
        ahead = mesh.announce("one")
        assert ahead["public_key"] == old
        for name in mesh.drivers:
            assert mesh.apply(name) == []  # nothing changes in force yet
        after = mesh.announce("one", confirmed=True)
        assert after["public_key"] == ahead["next_public_key"]
        assert "next_public_key" not in after
        assert mesh.apply("one") == []
        time.sleep(delay)
        for name in ("two", "three"):
            assert mesh.apply(name)
            assert mesh.apply(name) == []
        time.sleep(0.3)
        for (source, target), process in pings.items():
            counted = end_pings(mesh.net.vms[source], process)
            print(f"{source} -> {target}: {counted}")
            assert counted.sent > 3
            assert counted.lost == 0
        assert old not in mesh.net.vms["two"].run(f"wg show {IF} peers")

    def test_all_may_replace_their_keys_at_the_same_time(self, mesh: Deployment) -> None:
        mesh.rotate()
        old = [mesh.announce(name)["public_key"] for name in mesh.drivers]
        new = [mesh.announce(name, confirmed=True)["public_key"] for name in mesh.drivers]
        assert not set(old) & set(new)
        for name in mesh.drivers:
            mesh.apply(name)
        self.assert_works(mesh)

    def test_a_key_that_took_over_unheard_is_found_out_without_the_core(
        self, mesh: Deployment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The core died between the host's new key and its announcement."""
        mesh.rotate()
        mesh.announce("one")
        mesh.apply("two")
        mesh.drivers["one"].announce(mesh.unit("one", confirmed=True))  # nobody hears of it
        assert mesh.net.vms["two"].ping(mesh.vpn_address("one"), count=2, wait=1).received == 0
        assert mesh.apply("two") == []
        monkeypatch.setattr(wg_plan, "PATIENCE_SECONDS", -1)
        monkeypatch.setattr(wg_plan, "SESSION_SECONDS", -1)
        assert mesh.apply("two") == ["peer one: next key on trial"]
        until = time.monotonic() + 10
        while not (changes := mesh.apply("two")) and time.monotonic() < until:
            time.sleep(0.1)
        assert "peer one: allowed-ips set" in changes
        monkeypatch.undo()
        assert mesh.apply("two") == []
        self.assert_works(mesh, "one", "two")

    def test_no_next_key_is_taken_for_proven_while_the_old_one_is_in_force(
        self, mesh: Deployment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(wg_plan, "PATIENCE_SECONDS", -1)
        monkeypatch.setattr(wg_plan, "SESSION_SECONDS", -1)
        mesh.rotate()
        mesh.announce("one")
        mesh.apply("two")
        assert mesh.apply("two") == ["peer one: next key on trial"]
        self.assert_works(mesh, "one", "two")
        assert mesh.apply("two") == []

    def test_a_full_disk_leaves_the_old_key_in_force(
        self, mesh: Deployment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mesh.rotate()
        ahead = mesh.announce("one")

        def full(*_args: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr("os.fsync", full)
            with pytest.raises(DriverError, match="No space left on device"):
                mesh.announce("one", confirmed=True)
        assert mesh.announce("one") == ahead
        assert mesh.apply("one") == []
        self.assert_works(mesh)

    def test_damaged_files_are_replaced(self, mesh: Deployment) -> None:
        old = mesh.announce("one")["public_key"]
        for name in ("keys.json", "memory.json", "wireguard-go.pid"):
            (mesh.state_dir("one") / name).write_text("{torn")
        mesh.restart("one")
        assert mesh.announce("one")["public_key"] != old
        mesh.converge()
        assert len(mesh.net.vms["one"].processes()) == 1
        self.assert_works(mesh)

    # --- interface ------------------------------------------------------------------------

    def test_a_foreign_interface_of_that_name_is_never_touched(self, shop: Deployment) -> None:
        vm = shop.net.vms["one"]
        vm.run(f"ip link add {IF} type bridge")
        for name in shop.drivers:
            shop.announce(name)
        before = vm.picture()
        with pytest.raises(DriverError, match=f"the interface {IF} exists and was not made by"):
            shop.apply("one")
        with pytest.raises(DriverError, match="was not made by CNSMO"):
            shop.drivers["one"].observe(shop.desired("one"))
        shop.drivers["one"].remove()
        assert vm.picture() == before

    def test_a_taken_port_leaves_the_old_one_in_force(self, mesh: Deployment) -> None:
        vm = mesh.net.vms["one"]
        other = vm.spawn("wireguard-go -f other")
        until = time.monotonic() + 5
        while vm.system.run("wg", "set", "other", "listen-port", "7000", ok=(0, 1)).code:
            assert time.monotonic() < until
        pings = vm.spawn(f"ping -n -i 0.05 -w 60 {mesh.vpn_address('two')}")
        mesh.declare({**self.spec, "listen_port": 7000})
        with pytest.raises(DriverError, match=r"UDP port 7000 cannot be used.*listen_port"):
            mesh.apply("one")
        time.sleep(0.2)
        assert end_pings(vm, pings).lost == 0
        assert "51820" in vm.run(f"wg show {IF} listen-port")
        other.kill()
        other.wait()
        other.stdout.close()  # type: ignore[union-attr]

    def test_a_daemon_that_hangs_is_replaced(
        self, mesh: Deployment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("cnsmo.services.vpn.drivers.wg_tools.ANSWER_SECONDS", 0.5)
        vm = mesh.net.vms["two"]
        vm.run("pkill -STOP -x wireguard-go")
        assert mesh.drivers["two"].observe(mesh.desired("two")).drift
        assert mesh.apply("two")
        assert len(vm.processes()) == 1
        self.assert_works(mesh)

    def test_the_kernel_makes_it_or_says_why_not(self, shop: Deployment) -> None:
        shop.declare({**self.spec, "driver_options": {"implementation": "kernel"}})
        for name in shop.drivers:
            shop.announce(name)
        one = shop.net.vms["one"]
        before = one.picture()
        if one.system.run("ip", "link", "add", "try", "type", "wireguard", ok=(0, 2)).code:
            with pytest.raises(DriverUnavailable, match="this kernel has no WireGuard"):
                shop.apply("one")
        else:
            one.run("ip link delete try")
            shop.apply("one")
            seen = shop.drivers["one"].observe(shop.desired("one"))
            assert seen.detail["implementation"] == "kernel"
        shop.drivers["one"].remove()
        assert one.picture() == before

    # --- peers ----------------------------------------------------------------------------

    def test_roaming_is_left_alone_and_a_new_endpoint_is_not(self, mesh: Deployment) -> None:
        vm = mesh.net.vms["three"]
        wg(vm, "listen-port 7777")
        self.assert_works(mesh, "three", "one")
        one = mesh.net.vms["one"]
        assert "10.9.0.3:7777" in one.run(f"wg show {IF} endpoints")
        assert mesh.apply("one") == []
        vm.run("ip address add 10.9.0.98/24 dev eth0")
        mesh.join("three", private=["10.9.0.98/24"])
        assert mesh.apply("one") == ["peer three: endpoint set"]
        assert "10.9.0.98:51820" in one.run(f"wg show {IF} endpoints")

    def test_what_an_operator_sees(self, mesh: Deployment) -> None:
        seen = mesh.drivers["one"].observe(mesh.desired("one"))
        assert seen.problems == ()
        assert seen.detail["interface"] == IF
        assert seen.detail["public_key"] == mesh.announce("one")["public_key"]
        two = seen.detail["peers"]["two"]
        assert 0 <= two.pop("handshake_age") < 60
        assert two.pop("rx") > 0
        assert two.pop("tx") > 0
        assert two == {
            "endpoint": "10.9.0.2:51820",
            "allowed_ips": ["10.66.0.2/32", "fd66::2/128"],
            "path": "direct",
        }
        json.dumps(seen.detail)


class TestWireguardTopologies:
    """Packets that other members carry."""

    driver = WireguardDriver
    spec = {"cidr": ["10.66.0.0/24", "fd66::/64"]}
    net = VpnDriverContract.net
    carries = True
    assert_works = VpnDriverContract.assert_works

    def test_a_hub_carries_what_its_members_send_each_other(self, net: Net, tmp_path: Path) -> None:
        spec = {**self.spec, "topology": "hub", "hub": "hub"}
        shop = Deployment(net, tmp_path, self.driver, spec)
        for name, groups in (("one", ("hub",)), ("two", ()), ("three", ())):
            shop.join(name, groups)
        before = net.vms["one"].picture()
        shop.converge()
        self.assert_works(shop)
        assert len(net.vms["two"].run(f"wg show {IF} peers").split()) == 1
        seen = shop.drivers["two"].observe(shop.desired("two"))
        assert seen.detail["relayed"] == {"three": "one"}
        assert shop.apply("one") == []
        net.vms["one"].run(f"sysctl -qw net.ipv4.conf.{IF}.forwarding=0")
        assert shop.drivers["one"].observe(shop.desired("one")).drift
        assert shop.apply("one")
        shop.drivers["one"].remove()
        assert net.vms["one"].picture() == before

    def test_members_behind_nats_meet_at_a_relay(self, net: Net, tmp_path: Path) -> None:
        spec = {**self.spec, "relay": "relay", "keepalive": 1}
        shop = Deployment(net, tmp_path, self.driver, spec)
        shop.join("one", ("relay",), site="east", public=["10.9.0.1"])
        for name, site in (("two", "west"), ("three", "north")):
            address = f"10.9.0.{2 if name == 'two' else 3}"
            shop.join(name, site=site, behind_nat=True, private=["10.55.0.1/24"])
            # What a NAT does to strangers: nothing gets in that was not asked for.
            vm = net.vms[name]
            vm.run("nft add table inet nat_like")
            vm.run("nft add chain inet nat_like in { type filter hook input priority 0 ; }")
            vm.run("nft add rule inet nat_like in iifname eth0 ct state new udp dport 51820 drop")
            assert address in vm.run("ip address show dev eth0")
        shop.converge()
        self.assert_works(shop)
        seen = shop.drivers["two"].observe(shop.desired("two")).detail
        assert seen["relayed"] == {"three": "one"}
        assert seen["peers"]["one"]["path"] == "relay"
        at_relay = shop.drivers["one"].observe(shop.desired("one")).detail["peers"]
        assert at_relay["two"]["path"] == "calls-us"

    def test_who_is_only_called_is_called_back_after_a_restart(
        self, net: Net, tmp_path: Path
    ) -> None:
        """A host behind NAT would otherwise be cut off until it doubts its own session."""
        shop = Deployment(net, tmp_path, self.driver, {**self.spec, "keepalive": 25})
        shop.join("one", site="east", public=["10.9.0.1"])
        shop.join("two", site="west", behind_nat=True, private=["10.55.0.1/24"])
        shop.converge()
        self.assert_works(shop)
        shop.apply("one")
        net.vms["one"].run("pkill -KILL -x wireguard-go")
        shop.apply("one")
        assert net.vms["two"].ping(shop.vpn_address("one"), count=3, interval=0.3).received
