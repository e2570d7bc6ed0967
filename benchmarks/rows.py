# SPDX-License-Identifier: Apache-2.0
"""Rows of a deployment with services, as a core would hand them to an agent; no core is needed.

Host 0 is the one that has the agent.
"""

from __future__ import annotations

import datetime
import ipaddress
from typing import Any

from cnsmo.model.host import HostFacts
from cnsmo.model.lifecycle import State
from cnsmo.model.resource import AGENT, CORE, HOST, OPERATOR, Row, joined
from cnsmo.services.firewall.spec import FirewallSpec
from cnsmo.services.loadbalancer.spec import LoadBalancerSpec

DEPLOYMENT = "bench"
GROUP = "member"
CARRIERS = "carrier"
"""The group of host 0 where it is not one of the others, too."""
SERVICES = ("vpn", "firewall")
NETWORK = ipaddress.ip_network("10.0.0.0/8")
NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def host_name(number: int) -> str:
    """Name of a host."""
    return f"host{number:05}"


def address(number: int) -> str:
    """Where a host is on the underlay."""
    return str(NETWORK[number + 256])


def facts(number: int, at: str = "") -> HostFacts:
    """What a host finds out about itself; at: its address, where it is another than usual."""
    return HostFacts(private=(f"{at or address(number)}/{NETWORK.prefixlen}",))


def host(number: int, revision: int, at: str = "", group: str = GROUP) -> Row:
    """A host, one of the group."""
    body = {**facts(number, at).model_dump(mode="json"), "id": f"id-{number}", "groups": [group]}
    return _row(HOST, host_name(number), body, revision, CORE)


def agents(number: int, revision: int) -> list[Row]:
    """How the agents of a host stand."""
    body = {"state": State.READY.value, "reason": ""}
    names = [joined(host_name(number), service) for service in SERVICES]
    return [_row(AGENT, name, body, revision, CORE) for name in names]


def policy(spec: dict[str, Any], revision: int) -> Row:
    """A firewall as the core stores it."""
    body = FirewallSpec.model_validate(spec).model_dump(mode="json")
    return _row("firewall", "perimeter", body, revision, OPERATOR)


def balancer(name: str, spec: dict[str, Any], revision: int) -> Row:
    """A load balancer as the core stores it."""
    body = LoadBalancerSpec.model_validate(spec).model_dump(mode="json")
    return _row("loadbalancer", name, body, revision, OPERATOR)


def _row(kind: str, name: str, body: dict[str, Any], revision: int, owner: str) -> Row:
    return Row(kind=kind, name=name, owner=owner, revision=revision, body=body, updated_at=NOW)
