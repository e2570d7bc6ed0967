# SPDX-License-Identifier: Apache-2.0
"""A firewall in the cloud's network: Neutron's security groups, on the hosts' ports.

Groups of others on a port are left alone; as rules of several groups add up, it is told when they
let more in.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from cnsmo.model.messages import Problem
from cnsmo.model.resource import View
from cnsmo.services import networks
from cnsmo.services.firewall.drivers.sg_plan import GroupRule, Plan, plan, refused
from cnsmo.services.firewall.spec import FirewallSpec
from cnsmo.services.kit.openstack import told
from cnsmo.services.provider import Claim, Kept, ProviderDriver, without_server

SHOWN = 5
"""So many ports are told by name."""


class SecurityGroupDriver(ProviderDriver):
    """Keeps the security groups of one instance."""

    name = "security_group"

    @classmethod
    def refused(cls, path: str, spec: BaseModel) -> list[Problem]:
        return list(refused(path, spec))

    def apply(self, claim: Claim, view: View, spec: BaseModel) -> Kept:
        assert isinstance(spec, FirewallSpec)  # nosec B101
        listeners = {host: networks.listeners(view, host) for host in view.hosts}
        wanted = plan(view, claim.instance, spec, listeners)
        with told("Neutron"):
            work = _Work(self.cloud.network, claim)
            work.read()
            sets = {name: work.address_group(name, items) for name, items in wanted.sets.items()}
            ids = {
                key: work.security_group(key, rules, sets) for key, rules in wanted.groups.items()
            }
            ports = {name: work.ports_of(view.everybody[name].instance_id) for name in wanted.hosts}
            work.attach({one.id: ids[wanted.hosts[name]] for name in ports for one in ports[name]})
            work.sweep(keep={*ids.values(), *sets.values()})
            problems = [*_lost(view, wanted), *_portless(ports, view), *work.others(ports)]
        detail = {
            "security_groups": {
                claim.name(key): sorted(host for host, its in wanted.hosts.items() if its == key)
                for key in sorted(wanted.groups)
            },
            "address_groups": {name: len(items) for name, items in sorted(wanted.sets.items())},
        }
        return Kept(tuple(work.changes), tuple(problems), detail=detail)

    def remove(self, claim: Claim) -> list[str]:
        with told("Neutron"):
            work = _Work(self.cloud.network, claim)
            work.read()
            work.attach({})
            work.sweep(keep=set())
        return work.changes


@dataclasses.dataclass
class _Work:
    """One look at what there is, and what it takes to change it."""

    network: Any
    claim: Claim
    changes: list[str] = dataclasses.field(default_factory=list)

    def read(self) -> None:
        """All groups of ours, and all ports that may have them."""
        tag = self.claim.tag
        self._groups = sorted(self.network.security_groups(tags=tag), key=_id)
        # Address groups have no tags.
        self._sets = [
            one for one in sorted(self.network.address_groups(), key=_id) if _what(one, tag)
        ]
        self._ports = list(self.network.ports())

    def ports_of(self, instance_id: str) -> list[Any]:
        """The ports of a VM."""
        return [port for port in self._ports if instance_id and port.device_id == instance_id]

    def address_group(self, name: str, items: tuple[str, ...]) -> str:
        """An address group with these networks; its id."""
        found = next((one for one in self._sets if _what(one, self.claim.tag) == name), None)
        if found is None:
            made = self.network.create_address_group(
                name=self.claim.name(name),
                description=f"{self.claim.tag} {name}",
                addresses=list(items),
            )
            self.changes.append(f"address group {name} made, with {len(items)} addresses")
            return str(made.id)
        there = set(found.addresses or ())
        if new := sorted(set(items) - there):
            self.network.add_addresses_to_address_group(found, new)
            self.changes.append(f"address group {name}: added {', '.join(new)}")
        if old := sorted(there - set(items)):
            self.network.remove_addresses_from_address_group(found, old)
            self.changes.append(f"address group {name}: removed {', '.join(old)}")
        return str(found.id)

    def security_group(self, key: str, rules: frozenset[GroupRule], sets: Mapping[str, str]) -> str:
        """A security group with these rules; its id. What is new is let in first."""
        tag = self.claim.tag
        found = next((one for one in self._groups if _what(one, tag) == key), None)
        if found is None:
            found = self.network.create_security_group(
                name=self.claim.name(key), description=f"{tag} {key}", stateful=True
            )
            self.network.set_tags(found, [tag, "cnsmo"])
            self._groups.append(found)
            self.changes.append(f"security group {key} made")
        there = {_read(rule, sets): rule["id"] for rule in self._rules(found)}
        for rule in sorted(rules - there.keys()):
            self.network.create_security_group_rule(
                security_group_id=found.id, **_written(rule, sets)
            )
            self.changes.append(f"security group {key}: added {_words(rule)}")
        for rule in sorted(there.keys() - rules):
            self.network.delete_security_group_rule(there[rule], ignore_missing=True)
            self.changes.append(f"security group {key}: removed {_words(rule)}")
        return str(found.id)

    def _rules(self, group: Any) -> Iterable[Any]:
        """Those that Neutron makes of itself in a new group are among them."""
        return list(self.network.security_group_rules(security_group_id=group.id))

    def attach(self, wanted: Mapping[str, str]) -> None:
        """Have each port in its group, and in no other of ours. wanted: groups by port."""
        ours = {group.id for group in self._groups}
        for port in self._ports:
            there = list(port.security_group_ids or ())
            mine = [wanted[port.id]] if port.id in wanted else []
            target = [*(one for one in there if one not in ours), *mine]
            if sorted(target) != sorted(there):
                self.network.update_port(port, security_group_ids=target)
                port.security_group_ids = target
                self.changes.append(f"port {port.name or port.id}: security groups changed")

    def sweep(self, keep: set[str]) -> None:
        """Delete what is not wanted any more, and what two cores made at once."""
        for group in self._groups:
            if group.id not in keep:
                self.network.delete_security_group(group, ignore_missing=True)
                self.changes.append(f"security group {group.name} removed")
        for one in self._sets:
            if one.id not in keep:
                self.network.delete_address_group(one, ignore_missing=True)
                self.changes.append(f"address group {one.name} removed")

    def others(self, ports: Mapping[str, list[Any]]) -> list[str]:
        """What lets in more than is declared."""
        ours = {group.id for group in self._groups}
        foreign: dict[str, list[str]] = {}
        unguarded = []
        for host, its in ports.items():
            for port in its:
                if port.is_port_security_enabled is False:
                    unguarded.append(host)
                for ident in port.security_group_ids or ():
                    if ident not in ours:
                        foreign.setdefault(ident, []).append(host)
        found = []
        for ident, hosts in sorted(foreign.items()):
            rules = self.network.security_group_rules(security_group_id=ident, direction="ingress")
            if any(True for _rule in rules):
                name = getattr(self.network.find_security_group(ident), "name", ident)
                found.append(f"the security group {name} lets in more on {_some(hosts)}")
        if unguarded:
            found.append(f"port security is off on {_some(unguarded)}: nothing is filtered")
        return found


def _lost(view: View, wanted: Plan) -> list[str]:
    return without_server({host: view.everybody[host] for host in wanted.hosts})


def _portless(ports: Mapping[str, list[Any]], view: View) -> list[str]:
    """Hosts whose VM the cloud does not show."""
    found = [host for host, its in ports.items() if not its and view.everybody[host].instance_id]
    return [f"the cloud shows no port of {_some(found)}"] if found else []


def _some(names: Iterable[str]) -> str:
    found = sorted(set(names))
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(found[:SHOWN]) + more


def _id(thing: Any) -> str:
    return str(thing.id)


def _what(thing: Any, tag: str) -> str:
    """What a thing of ours is, after the tag in its description; "" of others."""
    head, _blank, what = str(thing.description or "").partition(" ")
    return what if head == tag else ""


def _read(rule: Any, sets: Mapping[str, str]) -> GroupRule:
    """A rule of Neutron's as ours; one that is not ours is like none of them."""
    names = {ident: name for name, ident in sets.items()}
    group = rule.remote_address_group_id
    low, high = rule.port_range_min, rule.port_range_max
    prefix = rule.remote_ip_prefix or ""
    return GroupRule(
        direction=rule.direction,
        family=rule.ether_type,
        protocol=NUMBERS.get(rule.protocol or "", rule.protocol or ""),
        low=-1 if low is None else low,
        high=-1 if high is None else high,
        prefix=f"group:{rule.remote_group_id}" if rule.remote_group_id else prefix,
        peers=names.get(group, str(group)) if group else "",
    )


NAMES = {"1": "icmp", "6": "tcp", "17": "udp", "58": "ipv6-icmp", "112": "vrrp", "132": "sctp"}
"""Protocols that Neutron knows by name, for people who look there."""
NUMBERS = {name: number for number, name in NAMES.items()}


def _written(rule: GroupRule, sets: Mapping[str, str]) -> dict[str, Any]:
    asked: dict[str, Any] = {"direction": rule.direction, "ether_type": rule.family}
    if rule.protocol:
        asked["protocol"] = NAMES.get(rule.protocol, rule.protocol)
    spans = {"port_range_min": rule.low, "port_range_max": rule.high}
    asked |= {key: value for key, value in spans.items() if value >= 0}
    if rule.prefix:
        asked["remote_ip_prefix"] = rule.prefix
    if rule.peers:
        asked["remote_address_group_id"] = sets[rule.peers]
    return asked


def _words(rule: GroupRule) -> str:
    ports = f" {rule.low}" + (f"-{rule.high}" if rule.high not in (-1, rule.low) else "")
    who = rule.peers or rule.prefix or "any"
    protocol = rule.protocol or "any"
    return f"{rule.direction} {rule.family} {protocol}{ports if rule.low >= 0 else ''} {who}"
