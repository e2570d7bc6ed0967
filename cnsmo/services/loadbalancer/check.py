# SPDX-License-Identifier: Apache-2.0
"""Mistakes in a load balancer that show only beside the hosts and the other services; pure."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping

from cnsmo.model.messages import Problem
from cnsmo.model.resource import View
from cnsmo.model.suggest import did_you_mean
from cnsmo.services.base import Listener, unknown_groups
from cnsmo.services.loadbalancer.desired import Bind, Mode
from cnsmo.services.loadbalancer.features import Feature, asked
from cnsmo.services.loadbalancer.spec import LoadBalancerSpec, Pool
from cnsmo.services.loadbalancer.terms import bind


def check_names(
    view: View, path: str, spec: LoadBalancerSpec, networks: Collection[str]
) -> list[Problem]:
    """Words that mean nobody. networks: names of the VPNs."""
    problems = unknown_groups(view, f"{path}.on", spec.on)
    places = [f"{path}.pool", *(f"{path}.routes.{at}.pool" for at in range(len(spec.routes)))]
    for place, pool in zip(places, spec.pools.values(), strict=True):
        problems += unknown_groups(view, f"{place}.group", pool.group)
        problems += _unknown_hosts(view, f"{place}.hosts", pool.hosts)
        problems += _unknown_either(view, f"{place}.weights", pool.weights)
        problems += _unknown_either(view, f"{place}.backup", pool.backup)
        problems += _unknown_network(place, pool, networks)
    return problems


def check_features(
    path: str, spec: LoadBalancerSpec, can: Mapping[str, frozenset[Feature]]
) -> list[Problem]:
    """What the driver cannot do. can: what each of the drivers can."""
    problems = []
    for feature, key in asked(spec).items():
        if feature not in can[spec.driver]:
            able = ", ".join(sorted(name for name, features in can.items() if feature in features))
            problems.append(
                Problem(
                    path=f"{path}.{key}",
                    message=f"the driver {spec.driver} cannot do {feature}",
                    remedy=f"drivers that can: {able}" if able else "no driver here can",
                )
            )
    return problems


def check_places(
    view: View,
    declared: Mapping[str, LoadBalancerSpec],
    others: Mapping[str, list[Listener]],
) -> list[Problem]:
    """Ports of a carrier that two want. others: what other services listen at, by host."""
    problems = [
        problem
        for (one, first), (other, second) in itertools.combinations(sorted(declared.items()), 2)
        for problem in _check_pair(view, one, first, other, second)
    ]
    for name, spec in declared.items():
        for host in view.in_groups(spec.on):
            for place, listener in itertools.product(_binds(spec), others.get(host, ())):
                if listener.port == place.port and listener.protocol == _protocol(spec):
                    problems.append(
                        Problem(
                            path=f"loadbalancer.{name}.listen",
                            message=f"port {place.port} is {listener.why}'s on {host}",
                            remedy="take another one",
                        )
                    )
    return problems


def check_vips(
    view: View,
    declared: Mapping[str, LoadBalancerSpec],
    inside: Mapping[str, Collection[str]],
) -> list[Problem]:
    """A VIP is nobody's own address, and of no VPN. inside: networks of the carriers' VPNs."""
    problems = []
    for name, spec in declared.items():
        if spec.vip is None:
            continue
        vip = ipaddress.ip_interface(spec.vip).ip
        taken = (
            vpn
            for vpn, networks in sorted(inside.items())
            if any(vip in ipaddress.ip_network(network) for network in networks)
        )
        if vpn := next(taken, ""):
            problems.append(
                Problem(
                    path=f"loadbalancer.{name}.vip",
                    message=f"{vip} is of the VPN {vpn}'s own network",
                    remedy="take one of the underlay's",
                )
            )
        owners = [host.name for host in view.everybody.values() if vip in host.own_addresses]
        if owners:
            problems.append(
                Problem(
                    path=f"loadbalancer.{name}.vip",
                    message=f"{vip} is {owners[0]}'s own address",
                    remedy="take one that no host has",
                )
            )
    return problems


def _check_pair(
    view: View, one: str, first: LoadBalancerSpec, other: str, second: LoadBalancerSpec
) -> Iterator[Problem]:
    """Two instances on the same carrier at the same place."""
    shared = view.in_groups(first.on).keys() & view.in_groups(second.on).keys()
    if not shared or _protocol(first) != _protocol(second):
        return
    for mine, theirs in itertools.product(_binds(first), _binds(second)):
        if mine.port == theirs.port and ("" in (mine.address, theirs.address) or mine == theirs):
            yield Problem(
                path=f"loadbalancer.{other}.listen",
                message=f"port {theirs.port} is {one}'s on {min(shared)}",
                remedy="take another port, or other addresses",
            )
    if first.vip is not None and first.vip == second.vip:
        yield Problem(
            path=f"loadbalancer.{other}.vip",
            message=f"{second.vip} is held by {one} already",
            remedy=f"leave it out: where {one} holds it, all balancers of the host are behind it",
        )


def _protocol(spec: LoadBalancerSpec) -> str:
    return "udp" if spec.mode is Mode.UDP else "tcp"


def _binds(spec: LoadBalancerSpec) -> list[Bind]:
    redirects = spec.tls.redirect if spec.tls else ()
    return [bind(place) for place in (*spec.listen, *redirects)]


def _unknown_hosts(view: View, path: str, hosts: Iterable[str]) -> list[Problem]:
    known = view.everybody
    return [
        Problem(
            path=path,
            message=f"there is no host {name!r}",
            remedy=did_you_mean(name, known),
            absent=True,
        )
        for name in hosts
        if name not in known
    ]


def _unknown_either(view: View, path: str, names: Iterable[str]) -> list[Problem]:
    hosts, groups = frozenset(view.everybody), view.groups
    problems = []
    for name in names:
        if name in hosts and name in groups:
            problems.append(Problem(path=path, message=f"{name} is a group and a host",
                                    remedy="rename one of them"))  # fmt: skip
        elif name not in hosts | groups:
            problems.append(
                Problem(
                    path=path,
                    message=f"{name!r} is neither a group nor a host",
                    remedy=did_you_mean(name, hosts | groups),
                    absent=True,
                )
            )
    return problems


def _unknown_network(path: str, pool: Pool, networks: Collection[str]) -> list[Problem]:
    kind, _colon, name = (pool.via or "").partition(":")
    if kind != "vpn" or name in networks:
        return []
    return [
        Problem(
            path=f"{path}.via",
            message=f"no VPN {name!r} is declared",
            remedy=did_you_mean(name, networks),
        )
    ]
