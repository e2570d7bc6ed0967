# SPDX-License-Identifier: Apache-2.0
"""Deployments with a load balancer, by hand: two carriers at edge, three web hosts, one db."""

from typing import Any

from cnsmo.model.resource import OPERATOR, Row, View, adjustment_kind, joined
from cnsmo.services.loadbalancer.desired import LoadBalancerDesired, Pool
from cnsmo.services.loadbalancer.service import LoadBalancerService
from tests.unit.services.vpn import scenes
from tests.unit.services.vpn.scenes import host, instance, member, state, view

__all__ = ["BALANCER", "adjusted", "balancer", "compiled", "deployment", "host", "instance",
           "member", "pool", "state", "view"]  # fmt: skip
BALANCER = LoadBalancerService()
HOSTS = {
    "edge1": ("edge", "10.1.0.11/24", "198.51.100.11"),
    "edge2": ("edge", "10.1.0.12/24", "198.51.100.12"),
    "web1": ("web", "10.1.0.21/24", "198.51.100.21"),
    "web2": ("web", "10.2.0.22/24", "198.51.100.22"),
    "web3": ("web", "10.2.0.23/24", "198.51.100.23"),
    "db1": ("db", "10.2.0.31/24", "198.51.100.31"),
}


def balancer(name: str = "www", **spec: Any) -> Row:
    given = {"on": "edge", "listen": 80, "pool": {"group": "web", "port": 8080}, "driver": "noop"}
    body = BALANCER.Spec.model_validate({**given, **spec}).model_dump(mode="json")
    return scenes.row("loadbalancer", name, body, OPERATOR)


def adjusted(host: str, name: str = "www", **said: Any) -> Row:
    return scenes.row(adjustment_kind("loadbalancer"), joined(name, host), said, OPERATOR)


def deployment(*rows: Row, vpn: dict[str, Any] | None = None) -> list[Row]:
    """In a VPN ``backbone`` they are, by name: db1 .1, edge1 .2, edge2 .3, web1 .4 and so on."""
    hosts = [
        host(name, group, private=[private], public=[public], site=private.split(".")[1])
        for name, (group, private, public) in HOSTS.items()
    ]
    return [*scenes.admitted([*hosts, instance(**(vpn or {}))]), *rows]


def compiled(rows: list[Row] | View, name: str = "edge1", unit: str = "www") -> LoadBalancerDesired:
    seen = rows if isinstance(rows, View) else view(rows)
    return BALANCER.balancers(seen, name)[unit]


def pool(rows: list[Row], name: str = "edge1") -> Pool:
    return compiled(rows, name).pools[0]
