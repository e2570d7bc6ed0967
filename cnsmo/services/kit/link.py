# SPDX-License-Identifier: Apache-2.0
"""The tunnel's network interface: read it, compare it with what is wanted, change the difference.

Shared by all drivers that have an interface. An interface is ours when its alias says so; one of
the same name without that mark is never touched.
"""

from __future__ import annotations

import dataclasses
import hashlib
import ipaddress
import json
from collections.abc import Iterable, Sequence
from typing import Any

from cnsmo.model.errors import DriverError, ProgramError
from cnsmo.services.base import System

VPN = "vpn"
"""The service whose interfaces operators know by their names."""
NAME_BYTES = 15
"""IFNAMSIZ without the final zero, see netdevice(7)."""
ALIAS_BYTES = 255
"""IFALIASZ without the final zero, see linux/if_link.h."""


@dataclasses.dataclass(frozen=True)
class Link:
    """An interface as the kernel has it. ``kind``: "wireguard", "tun", ...; ``mtu``: bytes.

    ``addresses``: with prefix lengths, those of link scope left out. ``routes``: the networks that
    somebody routed into it, ``connected``: those that came with its addresses; in the main table.
    """

    name: str
    kind: str
    alias: str
    mtu: int
    up: bool
    addresses: frozenset[str] = frozenset()
    routes: frozenset[str] = frozenset()
    connected: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class WantedLink:
    """How the interface shall be. ``mtu``: bytes; addresses with prefix lengths."""

    mtu: int
    addresses: frozenset[str]
    routes: frozenset[str]


@dataclasses.dataclass(frozen=True)
class Step:
    """One difference: how it was found, what is said once it is gone, and the ip(8) command."""

    found: str
    repaired: str
    command: str


def interface_name(service: str, unit: str) -> str:
    """Name of a unit's interface, another one for each unit of each service.

    The VPNs' are readable where they fit; all others have a hash.
    """
    plain = f"cn-{unit}"
    if service == VPN and len(plain) <= NAME_BYTES:
        return plain
    whose = unit if service == VPN else f"{service}/{unit}"
    return f"cn-{unit[:5]}-{_digest(whose, 6)}"


def mark(label: str) -> str:
    """The alias by which an interface is known as ours; cut, with a hash, where it is too long."""
    plain = f"cnsmo:{label}"
    if len(plain) <= ALIAS_BYTES:
        return plain
    return f"{plain[: ALIAS_BYTES - 17]}~{_digest(label, 16)}"


def _digest(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def read_link(system: System, name: str) -> Link | None:
    """The interface of that name; None when there is none.

    :raises ProgramError: when ip(8) cannot be run.
    """
    return read_links(system, name)[0]


def read_links(system: System, name: str) -> tuple[Link | None, list[dict[str, Any]]]:
    """The interface of that name, if any, and all routes, by one run of ip(8).

    The routes are the unicast routes of the main tables of both IP versions, as ``ip -j -d route``
    has them.

    :raises ProgramError: when ip(8) cannot be run.
    """
    questions = f"route show table all\naddress show dev {name}\n"
    shown = system.run("ip", "-j", "-d", "-batch", "-", stdin=questions, ok=(0, 1)).stdout
    entries = [entry for line in shown.splitlines() if line for entry in json.loads(line)]
    routes = [
        entry
        for entry in entries
        if "dst" in entry
        and entry.get("table", "main") == "main"
        and entry.get("type", "unicast") == "unicast"
    ]
    for entry in entries:
        if entry.get("ifname") == name:
            return parse_link(entry, [it for it in routes if it.get("dev") == name]), routes
    return None, routes


def parse_link(entry: dict[str, Any], routes: Iterable[dict[str, Any]]) -> Link:
    """What ``ip -j -d address`` and ``ip -j route`` say about one interface."""
    by_kernel: set[str] = set()
    by_somebody: set[str] = set()
    for route in routes:
        automatic = route.get("protocol") in ("kernel", "ra")
        (by_kernel if automatic else by_somebody).add(network(route))
    return Link(
        name=entry["ifname"],
        kind=entry.get("linkinfo", {}).get("info_kind", ""),
        alias=entry.get("ifalias", ""),
        mtu=entry["mtu"],
        up="UP" in entry["flags"],
        addresses=frozenset(
            f"{ipaddress.ip_address(info['local'])}/{info['prefixlen']}"
            for info in entry.get("addr_info", ())
            if info.get("scope") != "link" and "local" in info
        ),
        routes=frozenset(by_somebody),
        connected=frozenset(by_kernel),
    )


def network(route: dict[str, Any]) -> str:
    """Destination of a route in canonical form; a default route as a network of all addresses."""
    if route["dst"] == "default":
        version6 = ":" in str(route.get("gateway", "")) or "pref" in route
        return "::/0" if version6 else "0.0.0.0/0"
    return str(ipaddress.ip_network(route["dst"]))


def foreign_routes(
    routes: Iterable[dict[str, Any]], name: str, wanted: Iterable[str]
) -> dict[str, str]:
    """Which of the wanted networks somebody else already routes through another interface."""
    elsewhere = {
        network(route): str(route.get("dev", "another interface"))
        for route in routes
        if route.get("dev") != name
    }
    return {subnet: elsewhere[subnet] for subnet in wanted if subnet in elsewhere}


def is_ours(link: Link, label: str) -> bool:
    """Whether we made an interface."""
    return link.alias == mark(label)


def require_ours(link: Link, label: str) -> None:
    """Refuse to work on an interface that somebody else made.

    :raises DriverError: with the remedy.
    """
    if not is_ours(link, label):
        unit = " ".join(label.split("/")[-2:])
        whose = f"its alias is {ascii(link.alias)}" if link.alias else "it has no alias"
        raise DriverError(
            f"the interface {link.name} exists and was not made by CNSMO for {label} ({whose}): "
            f"delete it ('ip link delete {link.name}') or rename it, or give {unit} another name"
        )


def link_steps(link: Link, wanted: WantedLink) -> list[Step]:
    """What has to change on an interface, in the order in which it has to be done; pure."""
    dev = link.name
    steps = [
        Step(
            f"{dev} has the address {address}, which is not its own",
            f"{dev}: address {address} removed",
            f"address delete {address} dev {dev}",
        )
        for address in sorted(link.addresses - wanted.addresses)
    ]
    steps += [
        Step(
            f"{dev} lacks the address {address}",
            f"{dev}: address {address} added",
            f"address add {address} dev {dev}" + (" nodad" if ":" in address else ""),
        )
        for address in sorted(wanted.addresses - link.addresses)
    ]
    if link.mtu != wanted.mtu:
        steps.append(
            Step(
                f"{dev} has the MTU {link.mtu} instead of {wanted.mtu}",
                f"{dev}: MTU {wanted.mtu}",
                f"link set dev {dev} mtu {wanted.mtu}",
            )
        )
    if not link.up:
        steps.append(Step(f"{dev} is down", f"{dev}: up", f"link set dev {dev} up"))
    return steps + _route_steps(link, wanted)


def converge_link(system: System, link: Link, wanted: WantedLink) -> list[str]:
    """Make an interface as it is wanted, in one run of ip(8).

    :return: what was changed, one line each.
    :raises ProgramError: when something was refused; what had been changed is taken back.
    """
    steps = link_steps(link, wanted)
    try:
        run_batch(system, [step.command for step in steps])
    except ProgramError:
        now = read_link(system, link.name)
        if now is not None and link.up:
            earlier = WantedLink(link.mtu, link.addresses, link.routes)
            run_batch(system, [step.command for step in link_steps(now, earlier)])
        raise
    return [step.repaired for step in steps]


def _route_steps(link: Link, wanted: WantedLink) -> list[Step]:
    dev, routes = link.name, _lasting_routes(link, wanted)
    steps = [
        Step(
            f"{subnet} is routed into {dev}, which nobody declared",
            f"{dev}: route {subnet} removed",
            f"route delete {subnet} dev {dev}",
        )
        for subnet in sorted(routes - wanted.routes)
    ]
    steps += _lost_connected(link, wanted)
    steps += [
        Step(
            f"{subnet} is not routed into {dev}",
            f"{dev}: route {subnet} added",
            f"route add {subnet} dev {dev}",
        )
        for subnet in sorted(wanted.routes - routes)
    ]
    return steps


def _lost_connected(link: Link, wanted: WantedLink) -> list[Step]:
    """The networks of addresses that stay, where somebody deleted their routes."""
    steps = []
    for address in sorted(link.addresses & wanted.addresses):
        interface = ipaddress.ip_interface(address)
        subnet = str(interface.network)
        single = interface.network.num_addresses == 1
        if single or not link.up or subnet in link.connected | link.routes:
            continue
        how = f"scope link src {interface.ip}" if interface.version == 4 else "metric 256"
        steps.append(
            Step(
                f"{subnet} is not routed into {link.name}",
                f"{link.name}: route {subnet} added",
                f"route add {subnet} dev {link.name} proto kernel {how}",
            )
        )
    return steps


def _lasting_routes(link: Link, wanted: WantedLink) -> frozenset[str]:
    """The routes that are still there once the interface is up and has lost what is not its own.

    Linux drops all routes of an interface that goes down, and the IPv4 routes of one that loses
    its last IPv4 address (fib_disable_ip in net/ipv4/fib_frontend.c).
    """
    if not link.up:
        return frozenset()
    loses4 = [address for address in link.addresses - wanted.addresses if ":" not in address]
    keeps4 = [address for address in link.addresses & wanted.addresses if ":" not in address]
    if loses4 and not keeps4:
        return frozenset(route for route in link.routes if ":" in route)
    return link.routes


def run_batch(system: System, commands: Sequence[str]) -> None:
    """Run ip(8) commands in one process; it stops at the first that fails.

    :raises ProgramError: with what ip(8) said.
    """
    if commands:
        system.run("ip", "-batch", "-", stdin="\n".join(commands) + "\n")


def delete_link(system: System, name: str) -> None:
    """Delete an interface; fine when it is gone already."""
    system.run("ip", "link", "delete", "dev", name, ok=(0, 1))


def port_in_use(system: System, port: int) -> bool:
    """Whether a socket of this host, a program's or the kernel's, has the UDP port."""
    return bool(system.run("ss", "-Hlnu", f"sport = :{int(port)}").stdout.strip())
