# SPDX-License-Identifier: Apache-2.0
"""From rows to Neutron's security groups and address groups; pure.

Hosts for which the same rules hold share a security group. A rule's peers are an address group:
when a host comes or goes, only addresses change.
"""

from __future__ import annotations

import dataclasses
import hashlib
import ipaddress
from collections.abc import Iterable, Iterator, Mapping

from pydantic import BaseModel

from cnsmo.model.messages import Problem
from cnsmo.model.resource import HOST, Row, View
from cnsmo.services.base import Listener
from cnsmo.services.firewall.always import needed
from cnsmo.services.firewall.compile import compile_firewall
from cnsmo.services.firewall.desired import UNDERLAY, Action, Direction, FirewallDesired, Line
from cnsmo.services.firewall.spec import FirewallSpec, Mode, Rule
from cnsmo.services.firewall.terms import ICMP, ICMPV6, is_network
from cnsmo.services.provider import refusal

OPEN_ANYWAY = frozenset(line.rule for line in needed(Direction.INBOUND))
"""What Neutron lets in by itself: DHCP, neighbour discovery, errors that belong to a flow."""
FAMILIES = {4: "IPv4", 6: "IPv6"}
OF_FAMILY = {ICMP: 4, ICMPV6: 6}


@dataclasses.dataclass(frozen=True, order=True)
class GroupRule:
    """A rule as Neutron has it. ``protocol``: IANA's number, "" for any. ``low``, ``high``: ports,
    or of ICMP the type. ``prefix``: a network; ``peers``: name of an address group; "" for any."""

    direction: str
    family: str
    protocol: str = ""
    low: int = -1
    high: int = -1
    prefix: str = ""
    peers: str = ""


OUT = tuple(GroupRule("egress", family) for family in FAMILIES.values())


@dataclasses.dataclass(frozen=True)
class Plan:
    """What shall be in the cloud. ``sets``: address groups, as networks. ``groups``: security
    groups by a key that stays while the same rules hold; ``hosts``: each host's."""

    sets: Mapping[str, tuple[str, ...]]
    groups: Mapping[str, frozenset[GroupRule]]
    hosts: Mapping[str, str]


def plan(
    view: View, name: str, spec: FirewallSpec, listeners: Mapping[str, Iterable[Listener]]
) -> Plan:
    """Of one instance. listeners: what other services need open, by host."""
    sets: dict[str, tuple[str, ...]] = {}
    groups: dict[str, frozenset[GroupRule]] = {}
    hosts: dict[str, str] = {}
    for host in view.everybody.values():
        if not host.within(spec.hosts):
            continue
        # Who is in quarantine keeps its fail-safe ports; what it sends, its agent stops.
        shut = {"inbound": ()} if host.quarantined else {}
        asked = [(name, spec.model_copy(update=shut))]
        desired = compile_firewall(
            _with(view, host.name), asked, host.name, (), listeners.get(host.name, ())
        )
        lines = [line for line in _inbound(desired) if line.rule not in OPEN_ANYWAY]
        rules = frozenset([*OUT, *(rule for line in lines for rule in _rules(line))])
        key = _key(lines)
        used = {rule.peers for rule in rules if rule.peers}
        sets |= {used_name: _networks(desired.sets[used_name]) for used_name in used}
        groups[key] = groups.get(key, frozenset()) | rules
        hosts[host.name] = key
    return Plan(sets, groups, hosts)


def _with(view: View, host: str) -> View:
    """A view in which the host takes part, be it in quarantine."""
    if host in view.hosts:
        return view
    row = next(row for row in view.rows(HOST) if row.name == host)
    body = {key: value for key, value in row.body.items() if key != "quarantined"}
    shown = Row.model_validate({**row.model_dump(), "body": body})
    return view.after(view.revision, [shown])


def _inbound(desired: FirewallDesired) -> Iterator[Line]:
    for part in desired.parts:
        if part.direction is Direction.INBOUND:
            yield from part.realms[UNDERLAY]


def _rules(line: Line) -> Iterator[GroupRule]:
    """What a line comes to: one for each IP version, and each range of ports."""
    spans = line.ports or tuple((kind, -1) for kind in line.types) or ((-1, -1),)
    for version in (line.version,) if line.version else FAMILIES:
        if OF_FAMILY.get(line.protocol or 0, version) != version:
            continue
        for low, high in spans:
            yield GroupRule(
                direction="ingress",
                family=FAMILIES[version],
                protocol="" if line.protocol is None else str(line.protocol),
                low=low,
                high=high,
                prefix=line.network or "",
                peers=line.peers or "",
            )


def _networks(addresses: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(str(ipaddress.ip_network(address)) for address in addresses))


def _key(lines: Iterable[Line]) -> str:
    """Of which rules hold, whatever they say: a changed port makes no other group."""
    told = ",".join(sorted({line.rule for line in lines}))
    return hashlib.sha256(told.encode()).hexdigest()[:8]


def refused(path: str, spec: BaseModel) -> Iterator[Problem]:
    """What security groups cannot say."""
    assert isinstance(spec, FirewallSpec)  # nosec B101
    if spec.mode is not Mode.ENFORCE:
        yield refusal(f"{path}.mode", "a security group cannot only count", "leave it out")
    if spec.default.inbound is not Action.DROP:
        yield refusal(
            f"{path}.default.inbound", "a security group drops what no rule lets in", "write drop"
        )
    if spec.default.outbound is not Action.ACCEPT or spec.outbound:
        where = f"{path}.outbound" if spec.outbound else f"{path}.default.outbound"
        yield refusal(
            where,
            "a security group does not know the agent's way to the core, and could cut it off",
            "leave it out: what hosts send is let out",
        )
    if spec.log:
        yield refusal(f"{path}.log", "a security group logs nothing", "leave it out")
    for at, rule in enumerate(spec.inbound):
        yield from _refused_rule(f"{path}.inbound.{at}", rule)
    for at, opening in enumerate(spec.failsafe):
        if any(term.startswith("vpn:") for term in opening.source):
            yield refusal(f"{path}.failsafe.{at}.from", INSIDE, "name groups or networks")


INSIDE = "the cloud does not see what is inside of a VPN's packets"


def _refused_rule(path: str, rule: Rule) -> Iterator[Problem]:
    if rule.action is not Action.ACCEPT:
        yield refusal(
            f"{path}.action",
            f"a security group can only let in, not {rule.action}",
            "leave the rule out: what no rule lets in is dropped",
        )
    for key, used in (("log", rule.log), ("limit", rule.limit)):
        if used:
            yield refusal(f"{path}.{key}", f"a security group has no {key}", "leave it out")
    if rule.via is not None and rule.via.startswith("vpn:"):
        yield refusal(f"{path}.via", INSIDE, "use the driver nftables for it")
    for key, terms in (("from", rule.source), ("to", rule.target)):
        if any(term.startswith("vpn:") for term in terms):
            yield refusal(f"{path}.{key}", INSIDE, "use the driver nftables for it")
    if any(map(is_network, rule.target)):
        yield refusal(
            f"{path}.to",
            "a security group is for all addresses of a port",
            "name hosts or groups",
        )
