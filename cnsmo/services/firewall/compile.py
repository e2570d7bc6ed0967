# SPDX-License-Identifier: Apache-2.0
"""From rows to the firewall of one host; pure."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping

from cnsmo.model.host import Host
from cnsmo.model.resource import View
from cnsmo.services.base import Listener, Segment
from cnsmo.services.firewall.always import failsafe_rules, listener_label, needed
from cnsmo.services.firewall.desired import (
    UNDERLAY,
    Action,
    Direction,
    FirewallDesired,
    Kind,
    Line,
    Part,
)
from cnsmo.services.firewall.peers import Peers
from cnsmo.services.firewall.spec import FirewallSpec, Mode, Rule
from cnsmo.services.firewall.terms import (
    ANY,
    PROTOCOLS,
    icmp_numbers,
    is_network,
    port_ranges,
    rate,
)
from cnsmo.services.words import UNDERLAY_WORD

Asked = list[tuple[str, FirewallSpec]]
"""Instances by name, in the order in which they are asked."""


def concerned(specs: Mapping[str, FirewallSpec], host: Host) -> Asked:
    """The instances that hold for a host."""
    found = [(name, spec) for name, spec in specs.items() if host.within(spec.hosts)]
    return sorted(found, key=lambda each: (each[1].priority, each[0]))


def compile_firewall(
    view: View,
    asked: Asked,
    host: str,
    segments: Iterable[Segment],
    listeners: Iterable[Listener],
) -> FirewallDesired:
    """The firewall of a host for which these instances hold."""
    networks = {segment.name: segment for segment in segments}
    peers = Peers(view, networks)
    enforced = [(name, spec) for name, spec in asked if spec.mode is Mode.ENFORCE]
    parts = []
    for direction in Direction:
        lines = _Lines(view, host, direction, (UNDERLAY, *networks), peers)
        always = lines.always(failsafe_rules(enforced), list(listeners))
        parts.append(Part(Kind.ALWAYS, direction, always))
        for name, spec in asked:
            if spec.mode is Mode.AUDIT:
                parts.append(_part(Kind.AUDIT, lines, [(name, spec)], instance=name))
        if enforced:
            parts.append(_part(Kind.ENFORCE, lines, enforced))
    return FirewallDesired(
        driver=asked[0][1].driver,
        parts=tuple(parts),
        interfaces={name: segment.interface for name, segment in networks.items()},
        pools=_pools(networks.values()) if enforced else (),
        sets=peers.sets,
        cut=any(spec.cut for _name, spec in enforced),
        confirm=max(spec.confirm for _name, spec in asked),
    )


def _pools(segments: Iterable[Segment]) -> tuple[str, ...]:
    return tuple(sorted(network for segment in segments for network in segment.networks))


def _part(kind: Kind, lines: _Lines, asked: Asked, instance: str = "") -> Part:
    return Part(
        kind,
        lines.direction,
        lines.declared(asked),
        default=Action.strictest(spec.default.of(lines.direction) for _name, spec in asked),
        instance=instance,
        log=next((rate(spec.log) for _name, spec in asked if spec.log), None),
    )


@dataclasses.dataclass(frozen=True)
class _Lines:
    """Makes the lines of one direction of a host."""

    view: View
    host: str
    direction: Direction
    realms: tuple[str, ...]
    peers: Peers

    def declared(self, asked: Asked) -> dict[str, tuple[Line, ...]]:
        """The rules of some instances, one after the other."""
        found: dict[str, list[Line]] = {realm: [] for realm in self.realms}
        for name, spec in asked:
            for label, rule in spec.labelled(name, self.direction):
                for realm in self.realms:
                    found[realm] += self._lines(label, rule, realm)
        return {realm: tuple(lines) for realm, lines in found.items()}

    def always(
        self, failsafe: list[Rule], listeners: list[Listener]
    ) -> dict[str, tuple[Line, ...]]:
        """What no rule may forbid."""
        found = {realm: list(needed(self.direction)) for realm in self.realms}
        for listener in listeners:
            if listener.network in found:
                found[listener.network] += self._listener(listener)
        if self.direction is Direction.INBOUND:
            for rule in failsafe:
                for realm in self.realms:
                    found[realm] += self._lines("always/failsafe", rule, realm)
        return {realm: tuple(dict.fromkeys(lines)) for realm, lines in found.items()}

    def _listener(self, listener: Listener) -> list[Line]:
        """The other ends' addresses; on the underlay anybody, where one is behind a NAT."""
        known = self.view.hosts
        hosts = [known[name] for name in sorted(listener.hosts) if name in known]
        label = listener_label(listener)
        plain = Line(
            label,
            Action.ACCEPT,
            protocol=PROTOCOLS[listener.protocol],
            ports=((listener.port, listener.port),) if listener.port else (),
        )
        realm = listener.network
        if realm == UNDERLAY and any(host.behind_nat and not host.public for host in hosts):
            return [plain]
        terms = tuple(f"host:{host.name}" for host in hosts)
        own = f"{listener.why} {listener.protocol} {listener.port}"
        names = [(version, self.peers.named(terms, realm, version, own)) for version in (4, 6)]
        return [
            dataclasses.replace(plain, version=version, peers=name)
            for version, name in names
            if name is not None
        ]

    def _lines(self, label: str, rule: Rule, realm: str) -> list[Line]:
        """What a rule comes to in a realm: nothing, a line, or one for each IP version."""
        inbound = self.direction is Direction.INBOUND
        mine, theirs = (rule.target, rule.source) if inbound else (rule.source, rule.target)
        local = self._local(mine, realm)
        if local is None or not _via(rule, realm):
            return []
        line = functools.partial(
            Line,
            label,
            rule.action,
            protocol=rule.number,
            ports=port_ranges(rule.ports),
            types=icmp_numbers(rule.icmp, rule.number),
            limit=rate(rule.limit),
            log=rate(rule.log),
        )
        anybody = self.peers.anybody(theirs, realm)
        if anybody and not local and rule.versions == (4, 6) and rule.limit is None:
            return [line()]
        lines = []
        for version in rule.versions:
            near = tuple(net for net in local if (":" in net) == (version == 6))
            far = self.peers.network(theirs, version)
            name = None if anybody or far else self.peers.named(theirs, realm, version)
            if (near or not local) and (name or far or anybody):
                lines.append(line(version=version, peers=name, network=far, local=near))
        return lines

    def _local(self, terms: tuple[str, ...], realm: str) -> tuple[str, ...] | None:
        """Networks of this side's address; empty: any. None: the rule is not about this host."""
        if any(self._means_me(term, realm) for term in terms):
            return ()
        return tuple(sorted(term for term in terms if is_network(term))) or None

    def _means_me(self, term: str, realm: str) -> bool:
        if is_network(term):
            return False
        kind, _colon, name = term.rpartition(":")
        if kind == "vpn":
            return bool(realm) and name == realm
        return term == ANY or self.peers.means(kind, name, self.view.hosts[self.host])


def _via(rule: Rule, realm: str) -> bool:
    if rule.via is None:
        return True
    return realm == UNDERLAY if rule.via == UNDERLAY_WORD else rule.via == f"vpn:{realm}"
