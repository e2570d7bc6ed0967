# SPDX-License-Identifier: Apache-2.0
"""What breaks on a host is repaired and reported; what comes and goes keeps its place."""

import re
import threading

from cnsmo.lab.topology import VmSpec
from tests.eventually import eventually
from tests.functional.mesh.world import DEPLOYMENT, World, wireguard_interfaces

ONE = VmSpec("one", "east", ("mesh",))
TWO = VmSpec("two", "east", ("mesh",))
THREE = VmSpec("three", "west", ("mesh",))
MESH = "vpn:\n  backbone: {cidr: 10.66.0.0/24}\n"


def mesh(world: World) -> World:
    """Three hosts in one VPN, all reaching all."""
    world.up(ONE, TWO, THREE)
    world.settle(world.apply(MESH))
    assert world.unreached() == [], world.tunnels()
    world.forget_events()
    return world


def test_a_killed_wireguard_go_is_back_within_one_resync_and_reported(world: World) -> None:
    mesh(world)
    world.run("two", "pkill", "-KILL", "wireguard-go")
    assert "drift was repaired" in world.event("agent.degraded", "two", 5).message
    world.event("agent.ready", "two")
    assert world.unreached() == []


def test_a_peer_deleted_by_hand_is_back_and_reported(world: World) -> None:
    mesh(world)
    interface = wireguard_interfaces(world.lab.vm("one"))[0]
    key = world.run("one", "wg", "show", interface, "peers").split()[0]
    world.run("one", "wg", "set", interface, "peer", key, "remove")
    assert "drift was repaired" in world.event("agent.degraded", "one", 5).message
    assert key in world.run("one", "wg", "show", interface, "peers")


def test_tunnels_carry_on_while_no_agent_runs(world: World) -> None:
    mesh(world)
    for name in ("one", "two", "three"):
        world.stop_agent(name)
    assert world.unreached() == []


def test_a_rebooted_host_keeps_its_address_and_its_key(world: World) -> None:
    mesh(world)
    before = world.client.member_list(DEPLOYMENT, "vpn", "backbone")["two"].body
    world.stop_agent("two")
    world.lab.vm("two").reboot()
    assert wireguard_interfaces(world.lab.vm("two")) == []
    world.start_agent("two")
    eventually(lambda: wireguard_interfaces(world.lab.vm("two")))
    world.settle()
    assert world.unreached() == []
    assert world.client.member_list(DEPLOYMENT, "vpn", "backbone")["two"].body == before


def test_a_removed_host_is_nobodys_peer_and_takes_itself_down(world: World) -> None:
    mesh(world)
    gone = world.client.member_list(DEPLOYMENT, "vpn", "backbone")["two"].body
    world.client.host_remove(DEPLOYMENT, "two")
    eventually(lambda: world.agent_ended("two"))
    assert wireguard_interfaces(world.lab.vm("two")) == []
    for name in ("one", "three"):
        eventually(lambda name=name: gone["public_key"] not in world.run(name, "wg", "show"))


def test_a_removed_host_that_joins_anew_gets_its_address_back(world: World) -> None:
    mesh(world)
    before = world.addresses()["two"]
    world.client.host_remove(DEPLOYMENT, "two")
    eventually(lambda: world.agent_ended("two"))
    world.stop_agent("two")
    world.start_agent("two")
    eventually(lambda: world.addresses().get("two"))
    assert world.addresses()["two"] == before
    assert world.unreached() == []


def test_new_keys_on_command_lose_no_packet(world: World) -> None:
    mesh(world)
    keys = _keys(world)
    target = world.addresses()["three"]
    said: list[str] = []
    ping = threading.Thread(
        target=lambda: said.append(
            world.run("one", "ping", "-i", "0.1", "-c", "100", target, timeout=40.0, ok=(0, 1))
        )
    )
    ping.start()
    world.client.renew(DEPLOYMENT, "vpn", "backbone")
    eventually(lambda: not (_keys(world) & keys), 20)
    ping.join(40)
    lost = 100 - int(re.search(r"(\d+) received", said[0]).group(1))
    slowest = re.search(r"= [\d.]+/[\d.]+/([\d.]+)/", said[0]).group(1)
    print(f"key rotation under a 10-per-second ping: {lost} of 100 lost, slowest {slowest} ms")
    assert lost <= 1, said[0]
    assert world.unreached() == []


def _keys(world: World) -> set[str]:
    rows = world.client.member_list(DEPLOYMENT, "vpn", "backbone").values()
    return {row.body["public_key"] for row in rows}
