# SPDX-License-Identifier: Apache-2.0
"""The VPN as a service: its spec, its address allocation and its compile, under one name."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any, cast

from pydantic import BaseModel

from cnsmo.model.host import Host
from cnsmo.model.lifecycle import WORKING, State
from cnsmo.model.messages import Problem
from cnsmo.model.names import IPNetwork
from cnsmo.model.reading import read
from cnsmo.model.resource import AGENT, HOST, Row, View, joined, member_kind, renewal_kind
from cnsmo.services import registry
from cnsmo.services.base import (
    Desired,
    Listener,
    Mentions,
    NetworkService,
    Refused,
    Segment,
    Unit,
    specs,
    unknown_groups,
)
from cnsmo.services.kit.link import interface_name
from cnsmo.services.options import option_problems
from cnsmo.services.vpn.admit import allocate
from cnsmo.services.vpn.compile import (
    addresses,
    belongs,
    compile_vpn,
    fits,
    peer_hosts,
    underlay,
)
from cnsmo.services.vpn.driver import VpnDriver
from cnsmo.services.vpn.seen import VpnSeen
from cnsmo.services.vpn.spec import VpnAnnouncement, VpnMember, VpnSpec

FORBEARANCE = 2
"""So many times its life a key is kept while a member is cut off."""


class VpnService(NetworkService):
    """Encrypted networks between the hosts of a deployment."""

    name = "vpn"
    Spec = VpnSpec
    Detail = VpnSeen
    Announcement = VpnAnnouncement
    renews = True

    def check(self, view: View) -> list[Problem]:
        declared: dict[str, VpnSpec] = specs(self, view)
        problems: list[Problem] = []
        for name, spec in declared.items():
            problems += _check_groups(view, name, spec)
            problems += _check_underlay(view, name, spec)
            problems += _check_driver(name, spec)
        if problems:
            return problems
        for (one, first), (other, second) in itertools.combinations(declared.items(), 2):
            problems += _check_pair(one, first, other, second)
        return problems

    def concerns(self, instance: str, spec: BaseModel, host: Host) -> bool:
        return isinstance(spec, VpnSpec) and belongs(spec, host)

    def awaited(self, view: View, instance: str) -> str | None:
        return _turn(view, instance)

    def mentions(self, spec: BaseModel) -> Mentions:
        if not isinstance(spec, VpnSpec):
            return Mentions()
        return Mentions(
            hosts=frozenset(route.via for route in spec.routes),
            groups=frozenset(filter(None, (*spec.members, spec.hub, spec.relay))),
        )

    def units(self, view: View, host: str) -> list[Unit]:
        me = view.hosts.get(host)
        if me is None:
            return []
        return [
            Unit(
                name=name,
                driver=spec.driver,
                options={
                    **spec.driver_options,
                    "rotate_after": _key_life(view, name, spec),
                    "generation": _generation(view, name, host),
                },
            )
            for name, spec in specs(self, view).items()
            if belongs(spec, me)
        ]

    def admit(self, view: View, instance: str, host: str, announced: BaseModel) -> dict[str, Any]:
        spec = specs(self, view)[instance]
        if isinstance(announced, VpnAnnouncement) and announced.driver == spec.driver:
            _refuse_lacking(instance, announced, _driver(spec).announces)
        _refuse_anothers_key(view, instance, host, announced)
        addresses = allocate(view, instance, host, spec)
        member = VpnMember(addresses=addresses, **announced.model_dump())
        return member.model_dump(mode="json", exclude_none=True)

    def admitted(self, view: View, instance: str, host: str) -> bool:
        row = view.get(member_kind(self.name), joined(instance, host))
        spec = specs(self, view).get(instance)
        return bool(row and spec and fits(spec, read(VpnMember, row.body)))

    def networks(self, view: View) -> list[str]:
        return list(specs(self, view))

    def segments(self, view: View, host: str) -> list[Segment]:
        me = view.hosts.get(host)
        return [
            Segment(
                name=name,
                interface=interface_name(self.name, name),
                members=addresses(view, name, spec),
                networks=spec.cidr,
            )
            for name, spec in specs(self, view).items()
            if me is not None and belongs(spec, me)
        ]

    def listens(self, view: View, host: str) -> list[Listener]:
        me = view.hosts.get(host)
        found = []
        for name, spec in specs(self, view).items():
            taken = _driver(spec).listens(spec.listen_port, spec.driver_options)
            if taken is not None and me is not None and belongs(spec, me):
                hosts = peer_hosts(view, name, spec, host)
                found.append(Listener(f"VPN {name}", *taken, hosts=hosts))
        return found

    def moved_by(self, row: Row, before: Row | None) -> bool:
        newcomer = row.kind == HOST and before is None
        # Nobody knows a newcomer's address in a VPN before it has announced itself there.
        return not newcomer and super().moved_by(row, before)

    def compile(self, view: View, host: str) -> Mapping[str, Desired]:
        me = view.hosts.get(host)
        if me is None:
            return {}
        made = {
            name: compile_vpn(view, name, spec, host)
            for name, spec in specs(self, view).items()
            if belongs(spec, me)
        }
        return {name: desired for name, desired in made.items() if desired is not None}


def _refuse_lacking(instance: str, announced: VpnAnnouncement, keys: Iterable[str]) -> None:
    """Who announces nothing to be known by could only be in others' way.

    :raises Refused: naming what is missing.
    """
    for key in keys:
        if not getattr(announced, key):
            raise Refused(f"VPN {instance}: the driver {announced.driver} announces its {key}")


def _refuse_anothers_key(view: View, instance: str, host: str, announced: BaseModel) -> None:
    """Two members with one key (a copied disk, or a thief) would cut everybody off.

    :raises Refused: naming the other.
    """
    mine = _keys(announced.model_dump())
    for other, member in view.places("vpn", instance).items():
        if other != host and mine & _keys(member.body):
            raise Refused(
                f"VPN {instance}: {other} has announced the same key (a copied disk?): remove the "
                "directory 'units' below this host's [agent] state_dir and restart its agent"
            )


def _keys(body: Mapping[str, Any]) -> set[str]:
    names = ("public_key", "next_public_key", "fingerprint", "next_fingerprint")
    return {body[name] for name in names if body.get(name)}


def _generation(view: View, name: str, host: str) -> int:
    """The generation of keys that a host shall have: the operator's, once it is its turn.

    One host after the other, by name: when both ends of a tunnel change their keys in the same
    moment, what they hold back for each other is lost.
    """
    row = view.get(renewal_kind("vpn"), name)
    wanted = int(row.body["generation"]) if row else 0
    members = view.members("vpn", name)
    turn = view.once(("vpn", "turn", name), lambda: _turn(view, name))
    if turn is None or host not in members or host <= turn:
        return wanted
    return int(members[host].body.get("generation") or 0)


def _turn(view: View, name: str) -> str | None:
    """The first by name that has not followed the operator's command.

    Hosts whose agent does not work are passed over, and those of which the core says so: they had
    their time.
    """
    row = view.get(renewal_kind("vpn"), name)
    if row is None:
        return None
    wanted, skipped = int(row.body["generation"]), row.body.get("skipped", ())
    for host, member in view.members("vpn", name).items():
        agent = view.get(AGENT, joined(host, "vpn"))
        working = agent is not None and State(agent.body["state"]) in WORKING
        behind = (member.body.get("generation") or 0) < wanted
        if working and behind and host not in skipped:
            return host
    return None


def _key_life(view: View, name: str, spec: VpnSpec) -> int:
    """Seconds after which a host replaces its key by itself.

    Longer while a member is cut off: it would not hear of the next key, and so lose a tunnel that
    works without the core. A command does not wait, nor does a key for ever.
    """
    away = view.once(("vpn", "away", name), lambda: _is_away(view, name))
    return spec.rotate_after * (FORBEARANCE if away else 1)


def _is_away(view: View, name: str) -> bool:
    agents = (view.get(AGENT, joined(host, "vpn")) for host in view.members("vpn", name))
    return any(agent is not None and agent.gone for agent in agents)


def _check_groups(view: View, name: str, spec: VpnSpec) -> list[Problem]:
    path = f"vpn.{name}"
    problems = unknown_groups(view, f"{path}.members", spec.members)
    if spec.hub:
        problems += unknown_groups(view, f"{path}.hub", [spec.hub])
    if spec.relay:
        problems += unknown_groups(view, f"{path}.relay", [spec.relay])
    return problems


def _check_underlay(view: View, name: str, spec: VpnSpec) -> list[Problem]:
    """A VPN's network must not hide the network that its packets travel on."""
    owners: dict[IPNetwork, str] = {}
    for host in view.hosts.values():
        for network in underlay(host) if belongs(spec, host) else ():
            owners.setdefault(network, host.name)
    return [
        Problem(
            path=f"vpn.{name}.cidr",
            message=f"{pool} overlaps {network}, the underlay of host {owner}",
            remedy="take a private network that no member's own network overlaps",
        )
        for pool, (network, owner) in itertools.product(spec.pools, owners.items())
        if network.version == pool.version and network.overlaps(pool)
    ]


def _check_pair(one: str, first: VpnSpec, other: str, second: VpnSpec) -> list[Problem]:
    problems = []
    for pool, rival in itertools.product(first.pools, second.pools):
        if pool.version == rival.version and pool.overlaps(rival):
            problems.append(
                Problem(
                    path=f"vpn.{other}.cidr",
                    message=f"{rival} overlaps {pool} of the VPN {one}",
                    remedy="give each VPN a network of its own",
                )
            )
    taken = _driver(first).listens(first.listen_port, first.driver_options)
    if taken is not None and taken == _driver(second).listens(
        second.listen_port, second.driver_options
    ):
        problems.append(
            Problem(
                path=f"vpn.{other}.listen_port",
                message=f"{taken[0].upper()} port {taken[1]} is used by the VPN {one}",
                remedy=f"write listen_port: {taken[1] + 1}, or another free port",
            )
        )
    return problems


def _check_driver(name: str, spec: VpnSpec) -> list[Problem]:
    """Whether the driver can do what is asked of it."""
    driver, path = _driver(spec), f"vpn.{name}"
    problems = []
    if spec.topology not in driver.topologies:
        able = ", ".join(driver.topologies)
        problems.append(
            Problem(
                path=f"{path}.topology",
                message=f"the driver {spec.driver} cannot do the topology {spec.topology}",
                remedy=f"it can do: {able}; or choose another driver",
            )
        )
    return problems + option_problems(driver.Options, spec.driver, spec.driver_options, path)


def _driver(spec: VpnSpec) -> type[VpnDriver]:
    return cast("type[VpnDriver]", registry.driver_class("vpn", spec.driver))
