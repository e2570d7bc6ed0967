# SPDX-License-Identifier: Apache-2.0
"""Which VMs a lab has, and which address each one gets; pure.

A *topology* is what one asks for, a *plan* is what a lab remembers: the same VMs, each with its
seat. A seat keeps its addresses for as long as the VM is in the lab, whoever comes and goes.

Site k (from 1) is the network 198.18.k.0/24, router .1, VMs from .11; 198.18.0.0/24 holds the
optional core, .11. All of it is of RFC 2544's range for benchmarks, which no deployment uses. A VM
behind NAT lives on a network of its own, 192.168.77.0/24 or one of the next; the address at the
site belongs to its NAT box.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Interface
from typing import Any

from cnsmo.model.errors import Conflict, InvalidRequest, NotFound
from cnsmo.model.host import HostFacts
from cnsmo.model.names import check_group, check_label

ROUTER = "router"
CORE = "core"
RESERVED = (CORE, ROUTER)
"""Names of the lab's own namespaces, and of the core's site: neither a VM nor a site has them."""

MTU = 1500
"""Bytes, of every link of the underlay."""

FIRST, LAST = 11, 254
FIRST_INNER, LAST_INNER = 77, 255
LAST_SITE = 255


@dataclasses.dataclass(frozen=True)
class VmSpec:
    """A VM as one asks for it. ``nat``: it can call out and cannot be called."""

    name: str
    site: str
    groups: tuple[str, ...] = ()
    nat: bool = False

    def __post_init__(self) -> None:
        """Refuse names that cannot be a host's, a site's or a group's, with InvalidRequest."""
        try:
            check_label(self.name)
            check_label(self.site)
            for group in self.groups:
                check_group(group)
        except ValueError as exc:
            raise InvalidRequest(f"VM {ascii(self.name)}: {exc}") from exc
        if self.name in RESERVED:
            raise InvalidRequest(f"{self.name!r} is the lab's own: give the VM another name")


@dataclasses.dataclass(frozen=True)
class Topology:
    """The VMs and sites that a lab begins with. ``core``: a namespace for a real core or broker,

    which every VM can reach, those behind NAT too.
    """

    vms: tuple[VmSpec, ...]
    sites: tuple[str, ...]
    core: bool = False


@dataclasses.dataclass(frozen=True)
class Seat:
    """A VM's place. ``site``: the site's number; ``number``: last byte of the address there;

    ``inner``: behind NAT, the third byte of its own network.
    """

    spec: VmSpec
    site: int
    number: int
    inner: int | None = None

    @property
    def name(self) -> str:
        """The VM's name."""
        return self.spec.name

    @property
    def outer(self) -> IPv4Interface:
        """The address at the site: the VM's own, or its NAT box's."""
        return site_address(self.site, self.number)

    @property
    def address(self) -> IPv4Interface:
        """The address of the VM's own interface."""
        return self.outer if self.inner is None else _inner_address(self.inner, FIRST)

    @property
    def gateway(self) -> IPv4Interface:
        """The VM's router: the site's, or its NAT box's inner side."""
        return site_gateway(self.site) if self.inner is None else _inner_address(self.inner, 1)

    @property
    def port(self) -> str:
        """The interface, in the router's namespace, that the VM or its NAT box is plugged into."""
        return f"s{self.site}n{self.number}"

    def facts(self) -> HostFacts:
        """What the VM's agent would be configured with."""
        return HostFacts(
            site=self.spec.site,
            private=(str(self.address),),
            public=() if self.spec.nat else (str(self.address.ip),),
            behind_nat=self.spec.nat,
            mtu=MTU,
        )


@dataclasses.dataclass(frozen=True)
class Plan:
    """All seats of a lab; immutable, `add` and `without` make the next one."""

    sites: tuple[str, ...]
    seats: tuple[Seat, ...] = ()
    core: bool = False

    @classmethod
    def of(cls, topology: Topology) -> Plan:
        """Seat all VMs of a topology.

        :raises InvalidRequest: for a name twice, an unknown site, or more than fit.
        """
        sites = topology.sites
        for site in sites:
            if site in RESERVED or len(set(sites)) < len(sites) or len(sites) > LAST_SITE:
                raise InvalidRequest(f"sites need {LAST_SITE} different names at most: {sites}")
        plan = cls(sites, core=topology.core)
        for spec in topology.vms:
            plan = plan.add(spec)
        return plan

    def add(self, spec: VmSpec) -> Plan:
        """Seat one more VM, at the lowest address that is free."""
        if spec.name in {seat.name for seat in self.seats}:
            raise Conflict(f"the lab has a VM {spec.name!r} already: take another name")
        site = self.site_number(spec.site)
        number = _lowest(FIRST, LAST, (seat.number for seat in self.seats if seat.site == site))
        inner = None
        if spec.nat:
            inners = (seat.inner for seat in self.seats if seat.inner is not None)
            inner = _lowest(FIRST_INNER, LAST_INNER, inners)
        return dataclasses.replace(self, seats=(*self.seats, Seat(spec, site, number, inner)))

    def without(self, name: str) -> Plan:
        """The plan without that VM; the others stay where they are."""
        gone = self.seat(name)
        return dataclasses.replace(self, seats=tuple(seat for seat in self.seats if seat != gone))

    def seat(self, name: str) -> Seat:
        """The seat of a VM.

        :raises NotFound: when the lab has no such VM.
        """
        for seat in self.seats:
            if seat.name == name:
                return seat
        there = ", ".join(seat.name for seat in self.seats)
        raise NotFound(f"the lab has no VM {ascii(name)}; it has: {there or 'none'}")

    def site_number(self, site: str) -> int:
        """The number of a site; 0 is the core's.

        :raises NotFound: when the lab has no such site.
        """
        if site in self.sites:
            return self.sites.index(site) + 1
        if site == CORE and self.core:
            return 0
        raise NotFound(f"the lab has no site {ascii(site)}; it has: {', '.join(self.sites)}")

    def to_json(self) -> dict[str, Any]:
        """For the lab's state file."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Plan:
        """What `to_json` made. Raises KeyError, TypeError or CnsmoError for anything else."""
        seats = []
        for entry in body["seats"]:
            spec = VmSpec(**{**entry["spec"], "groups": tuple(entry["spec"]["groups"])})
            seats.append(Seat(**{**entry, "spec": spec}))
        return cls(tuple(body["sites"]), tuple(seats), bool(body["core"]))


def demo() -> Topology:
    """Six VMs at two sites, one of them behind NAT: what examples/mesh.yaml is written for."""
    east = [VmSpec(name, "east", (name[:-1],)) for name in ("web1", "web2", "db1")]
    west = [VmSpec(name, "west", ("app",), nat=name == "app3") for name in ("app1", "app2", "app3")]
    return Topology((*east, *west), ("east", "west"))


def mesh(count: int, sites: int = 2, groups: tuple[str, ...] = ("mesh",)) -> Topology:
    """That many equal VMs, vm001 and on, dealt out over the sites site1 and on; none behind NAT."""
    names = tuple(f"site{number}" for number in range(1, sites + 1))
    vms = (VmSpec(f"vm{n + 1:03}", names[n % sites], groups) for n in range(count))
    return Topology(tuple(vms), names)


def site_address(site: int, number: int) -> IPv4Interface:
    """An address at a site, by the site's number and its own."""
    return ipaddress.IPv4Interface(f"198.18.{site}.{number}/24")


def site_gateway(site: int) -> IPv4Interface:
    """The router's address at a site."""
    return site_address(site, 1)


def core_address() -> IPv4Interface:
    """The address of the core's namespace, which the VMs of all sites can reach."""
    return site_address(0, FIRST)


def mac(address: IPv4Interface) -> str:
    """The hardware address that goes with an address: always the same, so that it can be pinned."""
    return ":".join(f"{byte:02x}" for byte in b"\x02\x00" + address.packed[:4])


def _inner_address(inner: int, number: int) -> IPv4Interface:
    return ipaddress.IPv4Interface(f"192.168.{inner}.{number}/24")


def _lowest(first: int, last: int, taken: Iterable[int]) -> int:
    free = set(range(first, last + 1)) - set(taken)
    if not free:
        raise InvalidRequest(f"no room: {last - first + 1} VMs fit here; take more sites")
    return min(free)
