# SPDX-License-Identifier: Apache-2.0
"""The host's side of a tunnel, the same for every driver: link, routes, forwarding."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from cnsmo.model.errors import DriverError
from cnsmo.services.kit.link import WantedLink
from cnsmo.services.vpn.desired import VpnDesired


def wanted_link(desired: VpnDesired, blocked: Mapping[str, str]) -> WantedLink:
    """The interface as it shall be; routes that somebody else has (blocked) are left to them.

    :raises DriverError: for a value that is no address and no network.
    """
    try:
        addresses = frozenset(str(ipaddress.ip_interface(text)) for text in desired.addresses)
        routes = frozenset(str(ipaddress.ip_network(text)) for text in desired.routes)
    except ValueError as exc:
        raise DriverError(f"VPN {desired.name}: {exc}") from exc
    return WantedLink(int(desired.mtu), addresses, routes - blocked.keys())


def passed_on(
    desired: VpnDesired, interface: str, behind: Mapping[str, str | None]
) -> tuple[list[str], set[int]]:
    """Interfaces through which packets come in that this host passes on, and their IP versions.

    behind: see forwarding.entrances().
    """
    if not desired.forward:
        return [], set()
    lans = {dev for dev in behind.values() if dev is not None}
    versions: set[int] = {ipaddress.ip_interface(text).version for text in desired.addresses}
    return [interface, *sorted(lans)], versions


def problems(blocked: Mapping[str, str], behind: Mapping[str, str | None]) -> list[str]:
    """What stands in the way of routes and gateways.

    blocked: routes that somebody else has, and where to; behind: see forwarding.entrances().
    """
    return [
        f"{subnet} is routed to {dev} already, so not into the VPN: delete that route, or take "
        f"{subnet} off the VPN's routes"
        for subnet, dev in sorted(blocked.items())
    ] + [
        f"gateway for {subnet}: no interface of this host leads there"
        for subnet, dev in sorted(behind.items())
        if dev is None
    ]
