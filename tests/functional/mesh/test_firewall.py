# SPDX-License-Identifier: Apache-2.0
"""One policy over a whole deployment: core, agents, tunnels and nftables, in namespaces."""

import re

import pytest

from cnsmo.bus.clients import CoreClient
from cnsmo.lab.topology import VmSpec
from cnsmo.model.errors import Unavailable
from tests.eventually import eventually
from tests.functional.firewall import listing
from tests.functional.mesh.world import DEPLOYMENT, World

EDGE = VmSpec("edge1", "east", ("edge",))
WEB1 = VmSpec("web1", "east", ("web",))
WEB2 = VmSpec("web2", "west", ("web",))
CLIENT = VmSpec("client", "west", ("clients",))
MESH = "vpn:\n  backbone: {cidr: 10.66.0.0/24}\n"
POLICY = """\
firewall:
  perimeter:
    inbound:
      - {name: ping, protocol: icmp, icmp: echo-request, via: backbone}
      - {name: app, from: edge, to: web, protocol: tcp, ports: 8080}
"""
CONNECT = """\
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 0.7).close()
except TimeoutError:
    print("dropped")
except ConnectionRefusedError:
    print("refused")
else:
    print("connected")
"""


def connect(world: World, source: str, address: str, port: int) -> str:
    """What becomes of a TCP connection: connected, refused (nobody listens there), dropped."""
    return world.run(source, "python3", "-c", CONNECT, address, str(port)).strip()


def pings(world: World, source: str, address: str) -> bool:
    """Whether one of a few echo requests is answered."""
    done = world.lab.vm(source).system().run(
        "ping", "-n", "-c", "1", "-w", "2", "-i", "0.2", address, ok=(0, 1)
    )  # fmt: skip
    return done.code == 0


@pytest.fixture
def shop(world: World) -> World:
    """Four hosts in a VPN, with the policy in force everywhere."""
    world.up(EDGE, WEB1, WEB2, CLIENT)
    world.settle(world.apply(MESH + POLICY))
    assert world.unreached() == []
    return world


def states(world: World) -> dict[str, str]:
    """The states of the firewalls, by host."""
    return {name: str(agent.state) for name, agent in world.agents("firewall").items()}


def rules(world: World, name: str) -> str:
    """The host's own table, as the kernel lists it, without counts."""
    shown = world.run(name, "nft", "-s", "list", "table", "inet", "cnsmo")
    return re.sub(r"elements = \{[^}]*\}", "", listing.plain(shown))


def underlay(world: World, name: str) -> str:
    return str(world.lab.vm(name).seat.address.ip)


def test_public_addresses_are_closed_and_the_vpn_works(shop: World) -> None:
    assert not pings(shop, "client", underlay(shop, "web1"))
    assert pings(shop, "client", shop.addresses()["web1"])


def test_a_group_is_let_in_and_others_are_not(shop: World) -> None:
    web, outside = shop.addresses()["web1"], underlay(shop, "web1")
    assert connect(shop, "edge1", web, 8080) == "refused"
    assert connect(shop, "edge1", outside, 8080) == "refused"
    assert connect(shop, "client", web, 8080) == "dropped"
    assert connect(shop, "client", outside, 8080) == "dropped"
    assert connect(shop, "client", outside, 22) == "refused"


def test_who_joins_is_let_in_and_who_goes_is_not(shop: World) -> None:
    edge2 = shop.lab.add(VmSpec("edge2", "west", ("edge",)))
    shop.start_agent(edge2.name)
    shop.event("agent.ready", "edge2", 30)
    shop.settle()
    web = underlay(shop, "web1")
    assert connect(shop, "edge2", web, 8080) == "refused"
    revision = shop.client.host_remove(DEPLOYMENT, "edge2")
    shop.forget_agent("edge2")
    shop.settle(revision)
    assert connect(shop, "edge2", web, 8080) == "dropped"


def test_a_change_that_cuts_the_way_to_the_core_takes_itself_back(
    shop: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bus of this world is in-process, so the way to the core is played by another door."""
    door = underlay(shop, "edge1")
    hosts = {host.id: host.name for host in shop.client.host_list(DEPLOYMENT)}

    def knock(client: CoreClient, _patience: float) -> None:
        name = hosts[client.context["agent_id"]]
        if connect(shop, name, door, 8080) == "dropped":
            raise Unavailable("the broker cannot be reached")

    monkeypatch.setattr(CoreClient, "knock", knock)
    opened = MESH + POLICY.replace("from: edge, to: web", "from: all, to: [web, edge]")
    shop.settle(shop.apply(opened))
    closed = f"{opened}    confirm: 2\n    default: {{outbound: drop}}\n"
    before = {vm.name: rules(shop, vm.name) for vm in shop.lab.vms()}
    shop.apply(closed)
    eventually(lambda: list(states(shop).values()).count("error") == 3, 2 + 5)
    for name, agent in shop.agents("firewall").items():
        if name != "edge1":
            assert agent.reason == (
                "host: no answer from the core within 2 s; the last good policy is back"
            )
            assert rules(shop, name) == before[name]
    assert rules(shop, "edge1") != before["edge1"], "its own door is always open to itself"
    assert states(shop)["edge1"] == "ready"
    shop.settle(shop.apply(opened))
    assert rules(shop, "edge1") == before["edge1"]


def test_a_rebooted_vm_has_its_firewall_before_its_agent(shop: World) -> None:
    shop.stop_agent("web1")
    before = rules(shop, "web1")
    shop.lab.vm("web1").reboot()
    assert rules(shop, "web1") == before
    shop.start_agent("web1")
    shop.settle()
    assert rules(shop, "web1") == before


def test_it_is_taken_away_again(shop: World) -> None:
    shop.settle(shop.apply(MESH))
    for vm in shop.lab.vms():
        assert "cnsmo" not in shop.run(vm.name, "nft", "list", "tables")
    assert pings(shop, "client", underlay(shop, "web1"))
