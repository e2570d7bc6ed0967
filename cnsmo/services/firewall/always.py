# SPDX-License-Identifier: Apache-2.0
"""What is open before any rule, so that nobody locks himself out; pure.

The way of the agent to the core is added by the driver: only the host knows it.
"""

from __future__ import annotations

import dataclasses
import re

from cnsmo.services.base import Listener
from cnsmo.services.firewall.desired import (
    UNDERLAY,
    Action,
    Direction,
    FirewallDesired,
    Kind,
    Line,
    Part,
)
from cnsmo.services.firewall.spec import FirewallSpec, Rule
from cnsmo.services.firewall.terms import ICMP, ICMPV6, PROTOCOLS

NEIGHBOURS = (130, 131, 132, 133, 134, 135, 136, 143)
"""ICMPv6 without which there is no IPv6 on a link: neighbour discovery, multicast listeners."""
DHCP = {Direction.INBOUND: {4: 68, 6: 546}, Direction.OUTBOUND: {4: 67, 6: 547}}
"""Ports of the client, and of the server."""


def needed(direction: Direction) -> tuple[Line, ...]:
    """Without these there is no network at all."""
    udp, ports = PROTOCOLS["udp"], DHCP[direction]
    return (
        Line("always/neighbour-discovery", Action.ACCEPT, 6, protocol=ICMPV6, types=NEIGHBOURS),
        Line("always/path-mtu", Action.ACCEPT, 6, protocol=ICMPV6, types=(1, 2, 3, 4)),
        Line("always/path-mtu", Action.ACCEPT, 4, protocol=ICMP, types=(3, 11, 12)),
        Line("always/dhcp", Action.ACCEPT, 4, protocol=udp, ports=((ports[4], ports[4]),)),
        Line("always/dhcp", Action.ACCEPT, 6, protocol=udp, ports=((ports[6], ports[6]),)),
    )


def failsafe_rules(enforced: list[tuple[str, FirewallSpec]]) -> list[Rule]:
    """The fail-safe ports of all instances, as rules."""
    return [
        Rule.model_validate(
            {"from": opening.source, "protocol": opening.protocol, "ports": opening.ports}
        )
        for _name, spec in enforced
        for opening in spec.failsafe
    ]


def listener_label(listener: Listener) -> str:
    """Whose port it is, as the id of a rule."""
    return f"always/{re.sub('[^a-z0-9]+', '-', listener.why.lower())}"


def fallback(desired: FirewallDesired) -> FirewallDesired:
    """What is in force when the first ruleset ever proves wrong: the same doors open, no rules.

    Where the rules enforce nothing, everything stays open.
    """
    realms: dict[str, tuple[()]] = dict.fromkeys((UNDERLAY, *desired.interfaces), ())
    parts = [part for part in desired.parts if part.kind is Kind.ALWAYS]
    enforced = any(
        part.kind is Kind.ENFORCE and part.direction is Direction.INBOUND for part in desired.parts
    )
    inbound = Action.DROP if enforced else Action.ACCEPT
    parts += [
        Part(Kind.ENFORCE, Direction.INBOUND, realms, inbound),
        Part(Kind.ENFORCE, Direction.OUTBOUND, realms, Action.ACCEPT),
    ]
    return dataclasses.replace(desired, parts=tuple(parts))


def unseen(desired: FirewallDesired) -> FirewallDesired:
    """The same where the cloud filters: what is inside of a VPN's packets it cannot look into."""
    through = (Line("always/inside-a-vpn", Action.ACCEPT),)
    parts = [
        dataclasses.replace(
            part,
            realms={
                realm: lines if realm == UNDERLAY else through
                for realm, lines in part.realms.items()
            },
        )
        if part.kind is Kind.ALWAYS
        else part
        for part in desired.parts
    ]
    return dataclasses.replace(desired, parts=tuple(parts))
