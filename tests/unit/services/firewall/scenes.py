# SPDX-License-Identifier: Apache-2.0
"""Deployments with a firewall, by hand."""

from typing import Any

from cnsmo.model.resource import OPERATOR, Row, View
from cnsmo.services.firewall.desired import FirewallDesired
from cnsmo.services.firewall.service import UNIT, FirewallService
from tests.unit.services.vpn import scenes
from tests.unit.services.vpn.scenes import host, instance, member, state, view

__all__ = ["FIREWALL", "compiled", "deployment", "host", "member", "policy", "state", "view"]
FIREWALL = FirewallService()
HOSTS = {
    "edge1": ("edge", "10.1.0.11/24", "198.51.100.11"),
    "web1": ("web", "10.1.0.21/24", "198.51.100.21"),
    "web2": ("web", "10.2.0.22/24", "198.51.100.22"),
    "db1": ("db", "10.2.0.31/24", "198.51.100.31"),
}


def policy(name: str = "perimeter", **spec: Any) -> Row:
    body = FIREWALL.Spec.model_validate({"driver": "noop", **spec}).model_dump(mode="json")
    return scenes.row("firewall", name, body, OPERATOR)


def deployment(
    *policies: Row, vpn: dict[str, Any] | None = None, more: list[Row] | None = None
) -> list[Row]:
    """Four hosts at two sites, in a VPN ``backbone`` where they are .1 to .4 by name; and more."""
    rows = [
        host(name, group, private=[private], public=[public], site=private.split(".")[1])
        for name, (group, private, public) in HOSTS.items()
    ]
    rows += [*(more or []), instance(**(vpn or {}))]
    return [*scenes.admitted(rows), *policies]


def compiled(rows: list[Row] | View, name: str) -> FirewallDesired:
    seen = rows if isinstance(rows, View) else view(rows)
    desired = FIREWALL.compile(seen, name)[UNIT]
    assert isinstance(desired, FirewallDesired)
    return desired
