# SPDX-License-Identifier: Apache-2.0
"""What the operator writes for a VPN, and what a host announces to it."""

from __future__ import annotations

import base64
import binascii
import enum
import functools
import ipaddress
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from cnsmo.model.names import ALL, Address, Group, IPNetwork, Label, Network
from cnsmo.services.base import mistake
from cnsmo.services.words import Groups, as_list

DAY = 86400


class Topology(enum.StrEnum):
    """Who talks to whom directly."""

    MESH = "mesh"
    """Every pair that can, directly."""
    HUB = "hub"
    """Everybody through the hosts of the group ``hub``."""


class Route(BaseModel):
    """A subnet outside the VPN that its members reach through one of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subnet: Network = Field(description="The subnet, as 192.168.7.0/24.")
    via: Label = Field(description="Name of the member that forwards to it.")


def _option(value: Any) -> Any:
    if not isinstance(value, bool | int | str):
        raise ValueError("true or false, a number or a word is expected")
    return value


Option = Annotated[bool | int | str, BeforeValidator(_option)]


class VpnSpec(BaseModel):
    """One VPN: an encrypted network that hosts of the deployment join."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cidr: Annotated[tuple[Network, ...], BeforeValidator(as_list)] = Field(
        min_length=1,
        max_length=2,
        description="The VPN's own network: one IPv4 network, one IPv6 network, or one of each.",
    )
    topology: Topology = Field(
        Topology.MESH,
        description="mesh: every pair directly where a path exists; hub: through the group hub.",
    )
    hub: Group | None = Field(
        None, description="Group whose hosts carry a hub topology (required there)."
    )
    relay: Group | None = Field(
        None,
        description="Group whose hosts relay in a mesh between hosts that cannot reach each other.",
    )
    members: Groups = Field(
        (ALL,), min_length=1, description="Groups whose hosts belong to the VPN."
    )
    listen_port: int = Field(51820, ge=1, le=65535, description="UDP port on every member.")
    keepalive: int = Field(
        25,
        ge=1,
        le=3600,
        description="Seconds between the packets with which a host behind NAT keeps its way open.",
    )
    mtu: int | None = Field(
        None,
        ge=576,
        le=65455,
        description="Bytes; left out, each host works it out from its underlay.",
    )
    driver: Label = Field("wireguard", description="Which driver realises it.")
    routes: tuple[Route, ...] = Field(
        (), max_length=1000, description="Subnets reachable through a member."
    )
    driver_options: dict[Label, Option] = Field(
        default_factory=dict, description="What only this driver knows; the driver's page says."
    )
    quarantine: int = Field(
        3600,
        ge=0,
        le=30 * DAY,
        description="Seconds for which the address of a removed host is not given to another.",
    )
    rotate_after: int = Field(
        30 * DAY,
        ge=0,
        le=3650 * DAY,
        description="Seconds after which a host replaces its key by itself; 0: only on command.",
    )

    @functools.cached_property
    def pools(self) -> tuple[IPNetwork, ...]:
        """The VPN's networks."""
        return tuple(ipaddress.ip_network(text) for text in self.cidr)

    @model_validator(mode="after")
    def _consistent(self) -> VpnSpec:
        _check_pools(self)
        _check_topology(self)
        _check_routes(self)
        if any(pool.version == 6 for pool in self.pools) and self.mtu and self.mtu < 1280:
            raise mistake("mtu", f"{self.mtu} is too small: IPv6 needs at least 1280 (RFC 8200)")
        return self


def _check_pools(spec: VpnSpec) -> None:
    if len({pool.version for pool in spec.pools}) != len(spec.pools):
        raise mistake("cidr", "at most one network of each IP version")
    for pool in spec.pools:
        if pool.num_addresses < 4:
            room = "/30" if pool.version == 4 else "/126"
            raise mistake("cidr", f"{pool} has no room for two hosts", f"take a {room} or larger")
        unusable = pool.is_multicast or pool.is_loopback or pool.is_link_local or pool.is_reserved
        if unusable or pool.is_unspecified or pool.prefixlen == 0:
            raise mistake("cidr", f"{pool} cannot be used for hosts", "take a private network")


def _check_topology(spec: VpnSpec) -> None:
    if spec.topology is Topology.HUB and spec.hub is None:
        raise mistake("hub", "topology: hub needs a group whose hosts carry it", "write hub: GROUP")
    if spec.topology is Topology.MESH and spec.hub is not None:
        raise mistake("hub", "is for topology: hub", "in a mesh, use relay")
    if spec.topology is Topology.HUB and spec.relay is not None:
        raise mistake("relay", "is for topology: mesh; a hub relays everything", "leave it out")


def _check_routes(spec: VpnSpec) -> None:
    """Every subnet leads to one gateway, and none into the VPN's own network."""
    gateways: dict[str, str] = {}
    for route in spec.routes:
        subnet = ipaddress.ip_network(route.subnet)
        if subnet.prefixlen == 0:
            raise mistake("routes", "a default route through the VPN is not supported")
        for pool in spec.pools:
            if pool.version == subnet.version and pool.overlaps(subnet):
                raise mistake("routes", f"{subnet} overlaps the VPN's own {pool}")
        other = gateways.setdefault(route.subnet, route.via)
        if other != route.via:
            raise mistake(
                "routes", f"{subnet} leads to {other} and to {route.via}", "keep one of the two"
            )


def check_key(value: str) -> str:
    """Return value when it is a Curve25519 key as wg(8) writes it: 32 bytes in base64."""
    try:
        raw = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 32 or base64.b64encode(raw).decode() != value:
        raise ValueError("not a WireGuard key: 32 bytes in base64 are expected")
    return value


WireguardKey = Annotated[str, AfterValidator(check_key)]
Fingerprint = Annotated[str, Field(pattern=r"^([0-9A-F]{2}:){31}[0-9A-F]{2}$")]
"""SHA-256 of a certificate as openssl x509 -fingerprint writes it."""


class VpnKeys(BaseModel):
    """What members know of each other: public halves only.

    ``next_*`` is announced ahead of a replacement, so that nobody is surprised by it.
    ``generation``: the operator's command for new keys that the one in use answers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    driver: Label
    generation: int | None = Field(None, ge=1, le=2**31)
    public_key: WireguardKey | None = None
    next_public_key: WireguardKey | None = None
    fingerprint: Fingerprint | None = None
    next_fingerprint: Fingerprint | None = None


class VpnAnnouncement(VpnKeys):
    """What a host says to the other members."""

    @model_validator(mode="after")
    def _differ(self) -> VpnAnnouncement:
        for one, other in (
            (self.public_key, self.next_public_key),
            (self.fingerprint, self.next_fingerprint),
        ):
            if one is not None and one == other:
                raise ValueError("what replaces a key is another one")
        return self


class VpnMember(VpnKeys):
    """A host's row in a VPN: its announcement, and the addresses that the core gave it."""

    addresses: tuple[Address, ...]
