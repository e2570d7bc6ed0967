# SPDX-License-Identifier: Apache-2.0
"""What becomes of a packet, read off the desired state that is enforced; pure."""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
from collections.abc import Iterable

from cnsmo.model.names import IPAddress
from cnsmo.services.firewall.desired import (
    SPOOFED,
    UNDERLAY,
    Action,
    Direction,
    FirewallDesired,
    Kind,
    Line,
    Part,
)

NETWORKS = 65536
"""Networks that are remembered as numbers."""


@dataclasses.dataclass(frozen=True)
class Packet:
    """The first packet of a flow. ``peer``: the other side's address; ``local``: this side's.

    ``protocol``: IANA's number; ``port``: of the destination; ``type``: of ICMP.
    """

    realm: str
    peer: IPAddress
    local: IPAddress
    protocol: int
    port: int | None = None
    type: int | None = None


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What happens, and which rule says so. ``audits``: rules on trial that would drop it."""

    action: Action
    rule: str
    audits: tuple[str, ...] = ()


def judge(desired: FirewallDesired, direction: Direction, packet: Packet) -> Verdict:
    """The verdict on the first packet of a flow; a limited rule counts as not exceeded."""
    audits: list[str] = []
    if _spoofed(desired, direction, packet):
        return Verdict(Action.DROP, SPOOFED)
    for part in desired.parts:
        if part.direction is not direction:
            continue
        action, rule = _ask(desired, part, packet)
        if action is None:
            continue
        if part.kind is not Kind.AUDIT:
            return Verdict(action, rule, tuple(audits))
        if action is not Action.ACCEPT:
            audits.append(rule)
    return Verdict(Action.ACCEPT, "no instance is enforced", tuple(audits))


def _ask(desired: FirewallDesired, part: Part, packet: Packet) -> tuple[Action | None, str]:
    for line in part.realms[packet.realm]:
        if _matches(desired, line, packet):
            return line.action, line.rule
    return part.default, f"{part.instance or 'the'} default of {part.direction}"


def _matches(desired: FirewallDesired, line: Line, packet: Packet) -> bool:
    if line.version and line.version != packet.peer.version:
        return False
    if line.protocol is not None and line.protocol != packet.protocol:
        return False
    if line.ports and not any(
        packet.port is not None and first <= packet.port <= last for first, last in line.ports
    ):
        return False
    if line.types and packet.type not in line.types:
        return False
    if line.local and not _within(packet.local, line.local):
        return False
    if line.network is not None and not _within(packet.peer, (line.network,)):
        return False
    return line.peers is None or desired.holds(line.peers, packet.peer)


def _within(address: IPAddress, networks: Iterable[str]) -> bool:
    number = int(address)
    return any(
        version == address.version and first <= number <= last
        for version, first, last in map(_span, networks)
    )


@functools.lru_cache(maxsize=NETWORKS)
def _span(text: str) -> tuple[int, int, int]:
    """IP version of a network, its first address and its last."""
    network = ipaddress.ip_network(text)
    return network.version, int(network.network_address), int(network.broadcast_address)


def _spoofed(desired: FirewallDesired, direction: Direction, packet: Packet) -> bool:
    outside = direction is Direction.INBOUND and packet.realm == UNDERLAY
    return outside and _within(packet.peer, desired.pools)
