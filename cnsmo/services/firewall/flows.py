# SPDX-License-Identifier: Apache-2.0
"""Flows between two sides, judged by the firewalls of both: for tests in documents, and to explain.

A side is a host or an address. A flow leaves its source host by the outbound rules there, and
reaches its target by the inbound rules there; an address has no firewall of ours.
"""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
from collections.abc import Callable, Iterator, Mapping

from cnsmo.model.host import Host
from cnsmo.model.messages import Problem
from cnsmo.model.names import IPAddress
from cnsmo.model.resource import View
from cnsmo.services.base import Segment
from cnsmo.services.firewall.desired import UNDERLAY, Action, Direction, FirewallDesired
from cnsmo.services.firewall.judge import Packet, Verdict, judge
from cnsmo.services.firewall.peers import Peers
from cnsmo.services.firewall.spec import FirewallSpec, PolicyTest
from cnsmo.services.firewall.terms import (
    ICMP,
    ICMPV6,
    PROTOCOLS,
    is_network,
)

ECHO = {ICMP: 8, ICMPV6: 128}
"""What is meant where no type of ICMP is said: an echo request."""
UNGUARDED = Verdict(Action.ACCEPT, "no firewall")


@dataclasses.dataclass(frozen=True)
class Flow:
    """The first packet of what is asked for. ``protocol``: IANA's number."""

    protocol: int
    port: int | None = None

    @property
    def label(self) -> str:
        """As shown: ``tcp/22``."""
        names = {number: name for name, number in PROTOCOLS.items()}
        name = names.get(self.protocol, str(self.protocol))
        return f"{name}/{self.port}" if self.port is not None else name


@dataclasses.dataclass(frozen=True)
class Side:
    """One end of a flow. ``host``: "" for an address outside the deployment."""

    host: str
    address: IPAddress

    @property
    def label(self) -> str:
        """As shown: ``web1 (10.66.0.1)``."""
        return f"{self.host} ({self.address})" if self.host else str(self.address)


@dataclasses.dataclass(frozen=True)
class Judged:
    """What becomes of a flow. ``realm``: where it travels; ``at``: the host whose firewall decides,
    and in which direction; "" where none does.
    """

    source: Side
    target: Side
    flow: Flow
    realm: str
    at: str
    direction: Direction
    verdict: Verdict

    @property
    def way(self) -> str:
        """What goes where, in words."""
        over = f"the VPN {self.realm}" if self.realm else "the underlay"
        return f"{self.source.label} to {self.target.label}, {self.flow.label} over {over}"

    @property
    def label(self) -> str:
        """The same, and what becomes of it."""
        where = f" on {self.at}" if self.at else ""
        return f"{self.way}: {self.verdict.action} by {self.verdict.rule}{where}"


class Site:
    """The firewalls of a deployment, each made when it is first asked for."""

    def __init__(
        self,
        view: View,
        firewall: Callable[[str], FirewallDesired | None],
        segments: Callable[[str], Mapping[str, Segment]],
    ) -> None:
        """firewall and segments: of the host of that name."""
        self._view = view
        self._firewall = functools.cache(firewall)
        self._segments = functools.cache(segments)

    def judge(
        self, source: str, target: str, flow: Flow, via: str | None = None
    ) -> Iterator[Judged]:
        """What becomes of a flow between each two that the words mean.

        source and target: a host, a group, or an address as network of one; via: as in rules.
        Pairs that cannot talk over that network are left out.
        """
        for one in self._meant(source):
            for other in self._meant(target):
                judged = self._judge(one, other, flow, via) if one != other else None
                if judged is not None:
                    yield judged

    def run(self, test: PolicyTest) -> Judged | None:
        """What decides a test: the first flow with another verdict than it must meet, else the
        first at all; None where no two hosts of today can make its flow."""
        flow = Flow(test.number, test.port)
        judged = list(self.judge(test.source, test.target, flow, test.via))
        wrong = (found for found in judged if found.verdict.action is not test.expect)
        return next(wrong, judged[0] if judged else None)

    def owner(self, address: IPAddress) -> str:
        """The host whose address it is, on the underlay or in a VPN; "" when it is nobody's."""
        for host in self._view.hosts.values():
            realms = (UNDERLAY, *self._segments(host.name))
            if any(address in self._addresses(host, realm) for realm in realms):
                return host.name
        return ""

    def _meant(self, term: str) -> list[Host | IPAddress]:
        if is_network(term):
            return [ipaddress.ip_network(term)[0]]
        kind, _colon, name = term.rpartition(":")
        return [host for host in self._view.hosts.values() if Peers.means(kind, name, host)]

    def _judge(
        self, one: Host | IPAddress, other: Host | IPAddress, flow: Flow, via: str | None
    ) -> Judged | None:
        realm = self._realm(one, other, via)
        ends = self._ends(one, other, realm, flow) if realm is not None else None
        if realm is None or ends is None:
            return None
        source, target = ends
        judged = Judged(source, target, flow, realm, "", Direction.OUTBOUND, UNGUARDED)
        for direction, mine, theirs in (
            (Direction.OUTBOUND, source, target),
            (Direction.INBOUND, target, source),
        ):
            firewall = self._firewall(mine.host) if mine.host else None
            if firewall is None:
                continue
            kind = ECHO.get(flow.protocol)
            packet = Packet(realm, theirs.address, mine.address, flow.protocol, flow.port, kind)
            verdict = judge(firewall, direction, packet)
            audits = judged.verdict.audits + verdict.audits
            verdict = dataclasses.replace(verdict, audits=audits)
            judged = dataclasses.replace(judged, at=mine.host, direction=direction, verdict=verdict)
            if verdict.action is not Action.ACCEPT:
                return judged
        return judged

    def _realm(self, one: Host | IPAddress, other: Host | IPAddress, via: str | None) -> str | None:
        """The network between two: the one that is said, a VPN that they share, or the underlay."""
        hosts = [side for side in (one, other) if isinstance(side, Host)]
        addresses = [side for side in (one, other) if not isinstance(side, Host)]
        shared = [
            name
            for name, segment in (self._segments(hosts[0].name) if hosts else {}).items()
            if all(host.name in segment.members for host in hosts)
            and all(_inside(address, segment) for address in addresses)
        ]
        if via is None:
            return min(shared, default=UNDERLAY)
        wanted = via.partition(":")[2]
        return wanted if not wanted or wanted in shared else None

    def _ends(
        self, one: Host | IPAddress, other: Host | IPAddress, realm: str, flow: Flow
    ) -> tuple[Side, Side] | None:
        versions = {ICMP: (4,), ICMPV6: (6,)}.get(flow.protocol, (4, 6))
        for version in versions:
            source = self._side(one, realm, version)
            target = self._side(other, realm, version)
            if source is not None and target is not None:
                return source, target
        return None

    def _side(self, end: Host | IPAddress, realm: str, version: int) -> Side | None:
        if not isinstance(end, Host):
            return Side("", end) if end.version == version else None
        own = self._addresses(end, realm)
        found = next((address for address in own if address.version == version), None)
        return None if found is None else Side(end.name, found)

    def _addresses(self, host: Host, realm: str) -> tuple[IPAddress, ...]:
        if realm == UNDERLAY:
            return host.own_addresses
        members = self._segments(host.name)[realm].members
        return tuple(ipaddress.ip_address(text) for text in members.get(host.name, ()))


def failed_tests(declared: Mapping[str, FirewallSpec], site: Site) -> list[Problem]:
    """Tests in the document whose flows meet another verdict than they must."""
    problems = []
    for name, spec in declared.items():
        for at, test in enumerate(spec.tests):
            found = site.run(test)
            if found is not None and found.verdict.action is not test.expect:
                problems.append(
                    Problem(
                        path=f"firewall.{name}.tests.{at}",
                        message=f"{found.label}; {test.expect} is expected",
                        remedy="change the rule, or what the test expects",
                    )
                )
    return problems


def _inside(address: IPAddress, segment: Segment) -> bool:
    return any(address in ipaddress.ip_network(text) for text in segment.networks)
