# SPDX-License-Identifier: Apache-2.0
"""Who takes another's address gets nowhere by it, neither inside of the tunnel nor outside."""

import json

import pytest

from cnsmo.lab.topology import VmSpec
from tests.eventually import eventually
from tests.functional.mesh.witness import Witness
from tests.functional.mesh.world import DEPLOYMENT, World, wireguard_interfaces

FRIEND = VmSpec("friend", "east", ("edge",))
THIEF = VmSpec("thief", "east", ("client",))
WEB = VmSpec("web1", "east", ("web",))
DOCUMENT = """\
vpn:
  backbone: {cidr: ["10.66.0.0/24", "fd66::/64"]}
firewall:
  perimeter:
    inbound:
      - {name: ping, protocol: icmp, icmp: echo-request, via: backbone}
      - {name: app, from: edge, to: web, protocol: udp, ports: 8080}
      - {name: open, from: any, to: web, protocol: udp, ports: 9090}
"""
APP, FOR_ALL = 8080, 9090
COUNT, SIZE = 20, 1000
"""Datagrams that are sent together, and bytes of each: no handshake or keepalive is as large."""
SEND = """\
import socket, sys
source, target, port, count, size = sys.argv[1:]
IP_TRANSPARENT, IPV6_TRANSPARENT = 19, 75  # to send from whatever address one likes
four = (socket.AF_INET, socket.IPPROTO_IP, IP_TRANSPARENT)
six = (socket.AF_INET6, socket.IPPROTO_IPV6, IPV6_TRANSPARENT)
family, level, transparent = six if ":" in source else four
sock = socket.socket(family, socket.SOCK_DGRAM)
sock.setsockopt(level, transparent, 1)
sock.bind((source, 0))
for _ in range(int(count)):
    sock.sendto(bytes(int(size)), (target, int(port)))
"""


class Crime:
    """Three members of a VPN: web1 lets its friend in, and the thief poses as the friend."""

    def __init__(self, world: World) -> None:
        self.world = world
        world.up(FRIEND, THIEF, WEB)
        world.settle(world.apply(DOCUMENT))
        assert world.unreached() == []
        self._members = world.client.member_list(DEPLOYMENT, "vpn", "backbone")

    def outer(self, name: str) -> str:
        """A host's own address."""
        return str(self.world.lab.vm(name).seat.address.ip)

    def inner(self, name: str, version: int = 4) -> str:
        """A host's address in the VPN."""
        four, six = self._members[name].body["addresses"]
        return str(six if version == 6 else four)

    def send(self, name: str, source: str, target: str, port: int) -> None:
        """Send datagrams from a host, and from any address."""
        self.world.run(
            name, "python3", "-c", SEND, source, target, str(port), str(COUNT), str(SIZE)
        )

    def witness(self, interface: str, port: int, *sources: str) -> Witness:
        """Counts at web1 what comes in there, as friend_came and thief_came, and what gets past.

        sources: the friend's address and the thief's. Also thief_wire: whatever is large and comes
        from the thief's own address.
        """
        before = {"thief_wire": f"ip saddr {self.outer('thief')} meta length > {SIZE}"}
        behind = {}
        for name, source in zip(("friend", "thief"), sources, strict=True):
            family = "ip6" if ":" in source else "ip"
            match = f'iifname "{interface}" {family} saddr {source} udp dport {port}'
            before[f"{name}_came"] = behind[f"{name}_past"] = match
        return Witness(self.world.lab.vm("web1").system(), before, behind)

    def tunnelled(self) -> int:
        """Bytes that the thief's WireGuard has sent to web1's."""
        shown = self.world.run("thief", "wg", "show", self.tunnel("thief"), "transfer")
        sent = {key: int(tx) for key, _rx, tx in map(str.split, shown.splitlines())}
        return sent[self._members["web1"].body["public_key"]]

    def tunnel(self, name: str) -> str:
        """A host's interface into the VPN."""
        (interface,) = wireguard_interfaces(self.world.lab.vm(name))
        return interface

    def posed(self) -> int:
        """Packets that web1 dropped because they posed as a member's."""
        shown = self.world.run("web1", "nft", "-j", "list", "chain", "inet", "cnsmo", "input")
        rules = [entry["rule"] for entry in json.loads(shown)["nftables"] if "rule" in entry]
        return sum(
            expression["counter"]["packets"]
            for rule in rules
            if rule.get("comment") == "always/anti-spoofing"
            for expression in rule["expr"]
            if "counter" in expression
        )


@pytest.fixture
def crime(world: World) -> Crime:
    """The policy is in force, and everybody reaches everybody."""
    return Crime(world)


@pytest.mark.parametrize("version", [4, 6])
def test_another_members_address_never_comes_out_of_the_tunnel(crime: Crime, version: int) -> None:
    friend, thief, web = (crime.inner(name, version) for name in ("friend", "thief", "web1"))
    witness = crime.witness(crime.tunnel("web1"), APP, friend, thief)
    sent = crime.tunnelled()
    crime.send("thief", friend, web, APP)
    crime.send("thief", thief, web, APP)  # behind the others in the same tunnel
    eventually(lambda: witness.counted()["thief_came"] > COUNT * SIZE)
    seen = witness.counted()
    assert crime.tunnelled() - sent > 2 * COUNT * SIZE
    assert seen["thief_wire"] > 2 * COUNT * SIZE, "all of it reached web1's WireGuard"
    assert seen["friend_came"] == 0
    assert seen["thief_past"] == 0, "and under its own address it is not let in"
    crime.send("friend", friend, web, APP)
    eventually(lambda: witness.counted()["friend_past"] > COUNT * SIZE)


@pytest.mark.parametrize("to", ["outer", "inner"])
def test_a_members_vpn_address_is_not_believed_outside_of_the_tunnel(crime: Crime, to: str) -> None:
    friend, thief, web = crime.inner("friend"), crime.outer("thief"), crime.outer("web1")
    if to == "inner":
        web = crime.inner("web1")
        crime.world.run("thief", "ip", "route", "add", web, "via", crime.outer("web1"))
    witness = crime.witness("eth0", FOR_ALL, friend, thief)
    crime.send("thief", friend, web, FOR_ALL)
    eventually(lambda: witness.counted()["friend_came"] > COUNT * SIZE)
    eventually(lambda: crime.posed() == COUNT, 5)
    assert witness.counted()["friend_past"] == 0
    crime.send("thief", thief, web, FOR_ALL)
    eventually(lambda: witness.counted()["thief_past"] > COUNT * SIZE)
    assert crime.posed() == COUNT


def test_outside_of_the_tunnel_a_group_is_known_by_its_members_own_addresses(crime: Crime) -> None:
    friend, thief, web = (crime.outer(name) for name in ("friend", "thief", "web1"))
    witness = crime.witness("eth0", APP, friend, thief)
    crime.send("thief", thief, web, APP)
    crime.send("friend", friend, web, APP)
    eventually(lambda: witness.counted()["friend_past"] > COUNT * SIZE)
    assert witness.counted()["thief_came"] > COUNT * SIZE
    assert witness.counted()["thief_past"] == 0
    assert crime.posed() == 0
