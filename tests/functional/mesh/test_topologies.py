# SPDX-License-Identifier: Apache-2.0
"""From the operator's document to the packet: meshes, hubs, relays, routes, several VPNs."""

import ipaddress

from cnsmo.lab.topology import VmSpec
from tests.eventually import eventually
from tests.functional.mesh.world import DEPLOYMENT, World, wireguard_interfaces

EAST = VmSpec("east1", "east", ("core",))
WEST = VmSpec("west1", "west", ("edge",))
SOUTH = VmSpec("south1", "south", ("edge",))
HIDDEN = VmSpec("hidden1", "west", ("hidden",), nat=True)
HIDDEN2 = VmSpec("hidden2", "east", ("hidden",), nat=True)


def test_a_mesh_over_sites_and_nat_carries_both_ip_versions(world: World) -> None:
    world.up(EAST, WEST, HIDDEN)
    revision = world.apply('vpn:\n  backbone: {cidr: ["10.66.0.0/24", "fd66::/64"]}\n')
    world.settle(revision)
    assert world.unreached() == []
    rows = world.client.member_list(DEPLOYMENT, "vpn", "backbone")
    for row in rows.values():
        six = row.body["addresses"][1]
        assert ipaddress.ip_address(six) in ipaddress.ip_network("fd66::/64")
        assert world.reaches("east1", six)


def test_two_hosts_behind_nat_find_each_other_through_a_relay(world: World) -> None:
    world.up(EAST, HIDDEN, HIDDEN2)
    world.settle(world.apply("vpn:\n  backbone: {cidr: 10.66.0.0/24, relay: core}\n"))
    assert world.unreached() == []
    world.client.look(DEPLOYMENT)
    eventually(lambda: _relayed(world, "hidden1") == {"hidden2": "east1"})


def test_without_a_relay_the_two_behind_nat_say_that_they_cannot_meet(world: World) -> None:
    world.up(EAST, HIDDEN, HIDDEN2)
    world.apply("vpn:\n  backbone: {cidr: 10.66.0.0/24}\n")
    said = world.event("agent.degraded", "hidden1").message
    assert "no path to hidden2" in said
    assert "declare a relay group" in said


def test_a_hub_carries_what_its_members_say_to_each_other(world: World) -> None:
    world.up(EAST, WEST, HIDDEN)
    document = "vpn:\n  backbone: {cidr: 10.66.0.0/24, topology: hub, hub: core}\n"
    world.settle(world.apply(document))
    assert world.unreached() == []
    route = world.run("west1", "wg", "show", "all", "peers")
    assert len(route.split()) == 2, "a spoke has one peer, the hub"


def test_the_same_document_with_openvpn_works_as_well(world: World) -> None:
    world.up(EAST, WEST, HIDDEN)
    document = "vpn:\n  backbone: {cidr: 10.66.0.0/24, topology: hub, hub: core, driver: openvpn}\n"
    revision = world.apply(document)
    world.settle(revision, timeout=60)
    assert world.unreached(seconds=20) == []


def test_members_reach_a_subnet_behind_their_gateway(world: World) -> None:
    world.up(EAST, WEST)
    world.run("east1", "ip", "link", "add", "lan0", "type", "bridge")
    world.run("east1", "ip", "addr", "add", "192.168.7.1/24", "dev", "lan0")
    world.run("east1", "ip", "link", "set", "lan0", "up")
    document = (
        "vpn:\n  backbone:\n    cidr: 10.66.0.0/24\n"
        "    routes: [{subnet: 192.168.7.0/24, via: east1}]\n"
    )
    world.settle(world.apply(document))
    assert world.reaches("west1", "192.168.7.1")


def test_a_host_in_two_vpns_is_in_both_and_others_only_in_theirs(world: World) -> None:
    world.up(EAST, WEST, SOUTH)
    document = (
        "vpn:\n"
        "  backbone: {cidr: 10.66.0.0/24}\n"
        "  edges: {cidr: 10.67.0.0/24, members: edge, listen_port: 51821}\n"
    )
    world.settle(world.apply(document))
    assert world.unreached("backbone") == []
    assert world.unreached("edges") == []
    assert set(world.addresses("edges")) == {"west1", "south1"}
    assert len(wireguard_interfaces(world.lab.vm("east1"))) == 1
    assert len(wireguard_interfaces(world.lab.vm("west1"))) == 2


def test_what_is_not_declared_any_more_is_gone_from_every_host(world: World) -> None:
    world.up(EAST, WEST)
    world.settle(world.apply("vpn:\n  backbone: {cidr: 10.66.0.0/24}\n"))
    disks = [vm.disk / "agent" / "units" / "vpn" / "backbone" for vm in world.lab.vms()]
    assert all(any(disk.iterdir()) for disk in disks)
    world.settle(world.apply("vpn: {}\n"))
    for vm in world.lab.vms():
        assert wireguard_interfaces(vm) == []
        assert "wireguard-go" not in vm.system().run("ps", "-A", "-o", "args").stdout
        assert not list((vm.disk / "agent" / "units").rglob("*.json"))
    assert world.addresses() == {}


def test_a_vpn_that_moves_to_another_network_takes_everybody_along(world: World) -> None:
    world.up(EAST, WEST)
    world.settle(world.apply("vpn:\n  backbone: {cidr: 10.66.0.0/24}\n"))
    revision = world.apply("vpn:\n  backbone: {cidr: 10.77.0.0/24}\n")
    world.settle(revision)
    assert all(address.startswith("10.77.0.") for address in world.addresses().values())
    assert world.unreached() == []


def test_a_full_network_is_an_error_of_the_host_that_got_no_place(world: World) -> None:
    world.up(EAST, WEST, SOUTH)
    world.apply("vpn:\n  backbone: {cidr: 10.66.0.0/30}\n")
    agents = {}

    def one_in_error() -> bool:
        agents.update(world.agents())
        return sorted(str(agent.state) for agent in agents.values()) == ["error", "ready", "ready"]

    eventually(one_in_error, 20)
    (reason,) = [agent.reason for agent in agents.values() if agent.state == "error"]
    assert "no address is left in 10.66.0.0/30" in reason
    world.settle(world.apply("vpn:\n  backbone: {cidr: 10.66.0.0/24}\n"))
    assert world.unreached() == []


def _relayed(world: World, host: str) -> dict[str, str]:
    seen = world.agents()[host].observation or {}
    return seen.get("backbone", {}).get("relayed", {})
