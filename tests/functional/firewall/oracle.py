# SPDX-License-Identifier: Apache-2.0
"""What a policy means: a reference interpreter, from documents as operators write them.

It shares no code with compile(), the renderer or judge(), and asks for no speed: whoever wants to
know what the rules say reads verdict() from top to bottom.
"""

import dataclasses
import socket
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58
PROTOCOLS = {"tcp": TCP, "udp": UDP, "icmp": ICMP, "icmpv6": ICMPV6, "esp": 50, "sctp": 132}
TYPES = {
    ICMP: {"echo-reply": 0, "echo-request": 8, "time-exceeded": 11, "timestamp-request": 13},
    ICMPV6: {"packet-too-big": 2, "echo-request": 128, "echo-reply": 129},
}
VPN_PORT = 51820


@dataclasses.dataclass(frozen=True)
class Cast:
    """A host. ``own``: private and public addresses; ``vpn``: those in the VPN, none outside it."""

    groups: frozenset[str] = frozenset()
    own: tuple[str, ...] = ()
    vpn: tuple[str, ...] = ()
    down: bool = False
    hidden: bool = False
    """Behind a NAT, under no address that others know."""


@dataclasses.dataclass(frozen=True)
class Site:
    """All hosts by name; the one under test; the VPN ``backbone``'s networks."""

    hosts: Mapping[str, Cast]
    me: str
    pools: tuple[str, ...]

    @property
    def joined(self) -> bool:
        """Whether the host under test is in the VPN."""
        return bool(self.hosts[self.me].vpn)

    def tunnel(self, host: Cast) -> bool:
        """Whether a member and the host under test can call each other at all."""
        mine, theirs = ({":" in it for it in each.own} for each in (self.hosts[self.me], host))
        return bool(host.vpn and (not theirs or mine & theirs))


@dataclasses.dataclass(frozen=True)
class Packet:
    """The first of a flow. ``vpn``: on the VPN's interface; ``peer``, ``local``: of both sides."""

    inbound: bool
    vpn: bool
    peer: IPv4Address | IPv6Address
    local: IPv4Address | IPv6Address
    protocol: int
    port: int | None = None
    type: int | None = None


def verdict(site: Site, policies: Mapping[str, Mapping[str, Any]], packet: Packet) -> str:
    """accept, drop or reject."""
    packet = dataclasses.replace(packet, vpn=packet.vpn and site.joined)
    order = sorted(policies.items(), key=lambda each: (each[1].get("priority", 100), each[0]))
    asked = [
        policy
        for _name, policy in order
        if policy.get("mode") != "audit" and _held(site, policy.get("hosts", "all"))
    ]
    if not asked:
        return "accept"
    if packet.inbound and not packet.vpn and site.joined and _in(packet.peer, site.pools):
        return "drop"
    if _always(site, packet) or (packet.inbound and _failsafe(site, asked, packet)):
        return "accept"
    direction = "inbound" if packet.inbound else "outbound"
    for policy in asked:
        for rule in policy.get(direction, ()):
            if _matches(site, rule, packet):
                return str(rule.get("action", "accept"))
    usual = {"inbound": "drop", "outbound": "accept"}
    defaults = {{**usual, **policy.get("default", {})}[direction] for policy in asked}
    return next(action for action in ("drop", "reject", "accept") if action in defaults)


def _held(site: Site, groups: Any) -> bool:
    return any(_is(site, site.me, f"group:{group}") for group in _list(groups))


def _always(site: Site, packet: Packet) -> bool:
    """Neighbours, path MTU, DHCP (a client's port inbound, a server's outbound), the VPN's own."""
    if packet.protocol == ICMP:
        return packet.type in (3, 11, 12)
    if packet.protocol == ICMPV6:
        return packet.type in (1, 2, 3, 4, 143, *range(130, 137))
    if packet.protocol != UDP:
        return False
    dhcp = {4: 68, 6: 546} if packet.inbound else {4: 67, 6: 547}
    if packet.port == dhcp[packet.peer.version]:
        return True
    others = [host for name, host in site.hosts.items() if name != site.me and site.tunnel(host)]
    heard = any(host.hidden for host in others) or any(
        _in(packet.peer, host.own) for host in others
    )
    return packet.port == VPN_PORT and site.joined and not packet.vpn and heard


def _failsafe(site: Site, asked: Iterable[Mapping[str, Any]], packet: Packet) -> bool:
    openings = [each for policy in asked for each in _list(policy.get("failsafe", {"ports": 22}))]
    return any(_matches(site, {"protocol": "tcp", **opening}, packet) for opening in openings)


def _matches(site: Site, rule: Mapping[str, Any], packet: Packet) -> bool:
    mine, theirs = ("to", "from") if packet.inbound else ("from", "to")
    protocol, via = str(rule.get("protocol", "any")), rule.get("via")
    number = PROTOCOLS[protocol] if protocol in PROTOCOLS else int(protocol.replace("any", "0"))
    return (
        number in (0, packet.protocol)
        and via in (None, *(("backbone", "vpn:backbone") if packet.vpn else ("underlay",)))
        and ("ports" not in rule or any(_port(it, packet.port) for it in _list(rule["ports"])))
        and ("icmp" not in rule or packet.type in [_type(it, number) for it in _list(rule["icmp"])])
        and any(_near(site, term, packet) for term in _list(rule.get(mine, "any")))
        and any(_far(site, term, packet) for term in _list(rule.get(theirs, "any")))
    )


def _near(site: Site, term: str, packet: Packet) -> bool:
    """This side: the host under test, by any of its names, or the address in use."""
    if _is_network(term):
        return _in(packet.local, [term])
    return term == "any" or (term == "vpn:backbone" and packet.vpn) or _is(site, site.me, term)


def _far(site: Site, term: str, packet: Packet) -> bool:
    """The other side: by VPN addresses on the VPN, elsewhere by its own."""
    if _is_network(term):
        return _in(packet.peer, [term])
    return (
        term == "any"
        or (term == "vpn:backbone" and packet.vpn)
        or any(
            _in(packet.peer, host.vpn if packet.vpn else host.own)
            for name, host in site.hosts.items()
            if _is(site, name, term) and not host.down
        )
    )


def _is(site: Site, name: str, term: str) -> bool:
    """Whether ``host:NAME``, ``group:NAME`` or a bare name means a host."""
    return term in {
        form
        for kind, words in (("host", {name}), ("group", {"all", *site.hosts[name].groups}))
        for word in words
        for form in (word, f"{kind}:{word}")
    }


def _is_network(term: str) -> bool:
    return term.count(".") == 3 or "::" in term


def _in(address: IPv4Address | IPv6Address, networks: Iterable[str]) -> bool:
    return any(ip_address(address) in ip_network(text) for text in networks)


def _port(text: int | str, port: int | None) -> bool:
    first, _dash, last = str(text).partition("-")
    low = int(first) if first.isdigit() else socket.getservbyname(first)
    return port is not None and low <= port <= int(last or low)


def _type(text: int | str, protocol: int) -> int:
    return int(text) if str(text).isdigit() else TYPES[protocol][str(text)]


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
