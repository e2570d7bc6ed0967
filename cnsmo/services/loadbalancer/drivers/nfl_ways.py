# SPDX-License-Identifier: Apache-2.0
"""Through which interfaces packets of balanced flows come in: those have to pass packets on."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
from collections.abc import Iterable, Mapping
from typing import Any

from cnsmo.services.base import System
from cnsmo.services.loadbalancer.drivers.nfl_wanted import Wanted

LOOPBACK = "lo"


@dataclasses.dataclass(frozen=True)
class Ways:
    """``interfaces``: names; ``versions``: of IP; none where no server is on another host."""

    interfaces: tuple[str, ...] = ()
    versions: tuple[int, ...] = ()


def find_ways(system: System, wanted: Wanted) -> Ways:
    """Those of clients: that has the address where it listens, or all with an address. Those of
    servers: as the routes say.

    :raises ProgramError: when ip(8) cannot be run.
    """
    links = json.loads(system.run("ip", "-j", "address", "show").stdout or "[]")
    addresses = sorted({it.address for it in wanted.targets})
    questions = "".join(f"route get {address}\n" for address in addresses)
    answers = ""
    if questions:
        answers = system.run(
            "ip", "-j", "-force", "-batch", "-", stdin=questions, ok=(0, 1, 2)
        ).stdout
    routes = [entry for line in answers.splitlines() if line for entry in json.loads(line)]
    return ways(wanted, links, routes)


def ways(
    wanted: Wanted, links: Iterable[Mapping[str, Any]], routes: Iterable[Mapping[str, Any]]
) -> Ways:
    """The same, from what ip(8) says of links and of routes to the servers; pure."""
    out: dict[int, set[str]] = {}
    for route in routes:
        device = str(route.get("dev", LOOPBACK))
        if device != LOOPBACK and route.get("type", "unicast") == "unicast":
            version = ipaddress.ip_address(str(route["dst"])).version
            out.setdefault(version, set()).add(device)
    found = {device for devices in out.values() for device in devices}
    binds = {address for address, _port in wanted.binds}
    for link in links:
        mine = [it for it in link.get("addr_info", ()) if it.get("scope") == "global"]
        local = {str(it.get("local")) for it in mine}
        versions = {4 if it.get("family") == "inet" else 6 for it in mine}
        if link.get("ifname") == LOOPBACK or not versions & set(out):
            continue
        if "" in binds or binds & local:
            found.add(str(link["ifname"]))
    return Ways(tuple(sorted(found)), tuple(sorted(out)))
