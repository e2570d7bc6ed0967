# SPDX-License-Identifier: Apache-2.0
"""Which way leads from one host to another over the underlay; pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Hashable, Iterable

from cnsmo.model.host import Host
from cnsmo.model.names import IPAddress


def call_address(caller: Host, callee: Host) -> IPAddress | None:
    """The address at which caller can call callee; None when it cannot.

    A shared subnet first; then, unless callee sits behind a NAT, its private address at the same
    site and its public address elsewhere. Families must match: an IPv4-only host is not told to
    call an IPv6 address.
    """
    if caller.site == callee.site:
        for mine in caller.interfaces:
            for theirs in callee.interfaces:
                alone = mine.network.prefixlen == mine.max_prefixlen
                if mine.network == theirs.network and not alone and not theirs.ip.is_link_local:
                    return theirs.ip
    families: set[int] = {interface.version for interface in caller.interfaces} or {4, 6}
    public = _first(callee.public_addresses, families)
    if callee.behind_nat:
        return None
    if caller.site == callee.site:
        private = _first((interface.ip for interface in callee.interfaces), families)
        return private or public
    return public


def direct(one: Host, other: Host) -> bool:
    """Whether at least one of the two can call the other."""
    return call_address(one, other) is not None or call_address(other, one) is not None


def standing(host: Host) -> Hashable:
    """All that direct() looks at: hosts with the same reach the same, and are reached by them."""
    near = frozenset(
        (
            interface.version,
            interface.ip.is_link_local,
            None if interface.network.prefixlen == interface.max_prefixlen else interface.network,
        )
        for interface in host.interfaces
    )
    public = frozenset(
        (address.version, address.is_link_local) for address in host.public_addresses
    )
    return host.site, host.behind_nat, near, public


def endpoint(address: IPAddress | None, port: int) -> str | None:
    """``address:port`` as every tool writes it, IPv6 in brackets."""
    if address is None:
        return None
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def inner_mtu(underlay_mtu: int) -> int:
    """MTU inside a WireGuard tunnel over IPv6, the larger of the two overheads.

    40 (IPv6) + 8 (UDP) + 32 (WireGuard data message), see wg-quick(8).
    """
    return underlay_mtu - 80


def _first(addresses: Iterable[IPAddress], families: set[int]) -> IPAddress | None:
    for address in addresses:
        if address.version in families and not address.is_link_local:
            return address
    return None


def single(address: str) -> str:
    """An address as the network that holds only it."""
    return str(ipaddress.ip_network(address))
