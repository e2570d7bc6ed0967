# SPDX-License-Identifier: Apache-2.0
"""The load balancer as a service: each instance is one balancer on each of its carriers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from pydantic import BaseModel

from cnsmo.model.host import Host
from cnsmo.model.messages import Problem
from cnsmo.model.resource import View
from cnsmo.services import networks, registry
from cnsmo.services.base import (
    Desired,
    Listener,
    Mentions,
    NetworkService,
    Unit,
    adjustments,
    specs,
)
from cnsmo.services.figure import Figure
from cnsmo.services.loadbalancer.adjusted import Adjustment
from cnsmo.services.loadbalancer.check import (
    check_features,
    check_names,
    check_places,
    check_vips,
)
from cnsmo.services.loadbalancer.compile import compile_balancer
from cnsmo.services.loadbalancer.desired import LoadBalancerDesired
from cnsmo.services.loadbalancer.driver import LoadBalancerDriver
from cnsmo.services.loadbalancer.features import Feature
from cnsmo.services.loadbalancer.figures import figures
from cnsmo.services.loadbalancer.seen import LoadBalancerSeen
from cnsmo.services.loadbalancer.spec import LoadBalancerSpec


class LoadBalancerService(NetworkService):
    """Pools that follow groups, behind one place to call."""

    name = "loadbalancer"
    Spec = LoadBalancerSpec
    Detail = LoadBalancerSeen
    Adjustment = Adjustment
    after = frozenset({"vpn"})

    def check(self, view: View) -> list[Problem]:
        declared: dict[str, LoadBalancerSpec] = specs(self, view)
        can, known = self.abilities(), networks.names(view)
        problems = []
        for name, spec in declared.items():
            problems += check_names(view, f"loadbalancer.{name}", spec, known)
            if spec.driver in can:  # that there is such a driver, the core has checked
                problems += check_features(f"loadbalancer.{name}", spec, can)
            if _provided(spec):
                driver = registry.provider_class(self.name, spec.driver)
                problems += driver.refused(f"loadbalancer.{name}", spec)
        if any(not problem.absent for problem in problems):
            return problems
        carried = {name: spec for name, spec in declared.items() if not _provided(spec)}
        carriers = {host for spec in carried.values() for host in view.in_groups(spec.on)}
        others = {host: networks.listeners(view, host) for host in sorted(carriers)}
        inside = {
            name: segment.networks
            for host in carriers
            for name, segment in networks.segments(view, host).items()
        }
        problems += check_places(view, carried, others)
        return problems + check_vips(view, declared, inside)

    def concerns(self, instance: str, spec: BaseModel, host: Host) -> bool:
        return isinstance(spec, LoadBalancerSpec) and host.within(spec.on)

    def mentions(self, spec: BaseModel) -> Mentions:
        if not isinstance(spec, LoadBalancerSpec):
            return Mentions()
        pools = spec.pools.values()
        return Mentions(
            hosts=frozenset(host for pool in pools for host in pool.hosts),
            groups=frozenset([*spec.on, *(group for pool in pools for group in pool.group)]),
            words=frozenset(word for pool in pools for word in (*pool.weights, *pool.backup)),
        )

    def units(self, view: View, host: str) -> list[Unit]:
        return [Unit(name, spec.driver) for name, spec in self._carried(view, host).items()]

    def compile(self, view: View, host: str) -> Mapping[str, Desired]:
        return self.balancers(view, host)

    def balancers(self, view: View, host: str) -> dict[str, LoadBalancerDesired]:
        """The load balancers of a carrier, by instance."""
        carried = self._carried(view, host)
        segments = networks.segments(view, host) if carried else {}
        return {
            name: compile_balancer(view, spec, host, segments, adjustments(self, view, name))
            for name, spec in carried.items()
        }

    def listens(self, view: View, host: str) -> list[Listener]:
        found = []
        for name, balancer in self.balancers(view, host).items():
            if balancer.vip is None:
                continue
            inside = (
                segment.name
                for segment in networks.segments(view, host).values()
                if balancer.vip.source in segment.members.get(host, ())
            )
            others = view.in_groups(self._carried(view, host)[name].on).keys() - {host}
            found.append(
                Listener(
                    why=f"{self.name} {name}",
                    protocol="vrrp",
                    hosts=frozenset(others),
                    network=next(inside, ""),
                )
            )
        return found

    def figures(self, detail: Mapping[str, Any]) -> Iterable[Figure]:
        return figures(detail)

    def abilities(self) -> dict[str, frozenset[Feature]]:
        """What each installed driver can."""
        return {
            name: cast("type[LoadBalancerDriver]", registry.driver_class(self.name, name)).can
            for name in registry.driver_names(self.name)
        }

    def _carried(self, view: View, host: str) -> dict[str, LoadBalancerSpec]:
        me = view.hosts.get(host)
        if me is None:
            return {}
        declared: dict[str, LoadBalancerSpec] = specs(self, view)
        return {
            name: spec
            for name, spec in declared.items()
            if me.within(spec.on) and not _provided(spec)
        }


def _provided(spec: LoadBalancerSpec) -> bool:
    """Whether cores keep it in the cloud."""
    return registry.is_provided(LoadBalancerService.name, spec.driver)
