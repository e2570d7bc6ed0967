# SPDX-License-Identifier: Apache-2.0
"""A host: what it found out about itself, and what the core knows about it."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from cnsmo.model.names import (
    ALL,
    Address,
    Interface,
    IPAddress,
    IPInterface,
    Label,
    is_reachable,
)

MOST_PUBLIC = 4


class HostFacts(BaseModel):
    """What a host announces about itself; everything in it is checked before it is stored.

    ``private``: its addresses with prefix lengths on its own interfaces. ``public``: the address
    under which other sites reach it. ``behind_nat``: nobody outside its own subnet can call it.
    ``mtu``: bytes, of the interface that holds the default route. ``ephemeral``: it comes and goes,
    and is removed when it has been silent for long.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    site: Label = "default"
    private: Annotated[tuple[Interface, ...], Field(max_length=16)] = ()
    public: Annotated[tuple[Address, ...], Field(max_length=MOST_PUBLIC)] = ()
    behind_nat: bool = False
    mtu: Annotated[int, Field(ge=576, le=65535)] = 1500
    ephemeral: bool = False
    instance_id: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9._-]*$")] = ""


def check_facts(facts: HostFacts) -> HostFacts:
    """Return the facts when a host may say them; what is stored may be from before.

    :raises ValueError: when an address is none that others could reach a host by.
    """
    for text in (*facts.public, *(it.partition("/")[0] for it in facts.private)):
        address = ipaddress.ip_address(text)
        if not is_reachable(address) and not (address.is_link_local and text not in facts.public):
            raise ValueError(f"{text} is no address by which others reach a host")
    return facts


ToldFacts = Annotated[HostFacts, AfterValidator(check_facts)]
"""As a host says them now."""


class CloudFacts(BaseModel):
    """What a cloud says of a host, as an operator had it read ('cnsmo-manage cloud sync').

    ``public``: floating IPs, which the VM has on none of its interfaces. ``instance_id``: for a
    host that was told none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    public: Annotated[tuple[Address, ...], Field(max_length=MOST_PUBLIC)] = ()
    instance_id: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9._-]*$")] = ""


class Host(HostFacts):
    """A host as everybody sees it: its facts, and the groups that its token granted.

    ``quarantined``: an operator has taken it out of everything, see View.hosts. ``bounds``: the
    networks in which its token says that it is; empty: any. ``disputed``: addresses that it said
    to have and that are not believed, and why; they are not among its facts. ``cloud``: what its
    cloud says; it is part of its facts already.
    """

    name: Label
    id: str
    groups: frozenset[Label] = frozenset()
    quarantined: bool = False
    bounds: tuple[str, ...] = ()
    disputed: dict[str, str] = {}
    cloud: CloudFacts | None = None

    @model_validator(mode="before")
    @classmethod
    def _told_by_cloud(cls, data: Any) -> Any:
        """The cloud's addresses go before the host's own: they are the ones of today."""
        if not isinstance(data, dict) or not data.get("cloud"):
            return data
        cloud = CloudFacts.model_validate(data["cloud"])
        own = [address for address in data.get("public", ()) if address not in cloud.public]
        return {
            **data,
            "public": [*cloud.public, *own][:MOST_PUBLIC],
            "instance_id": data.get("instance_id") or cloud.instance_id,
        }

    def within(self, groups: Iterable[str]) -> bool:
        """Whether it belongs to at least one of the groups; ``all`` is every host's."""
        wanted = frozenset(groups)
        return ALL in wanted or bool(wanted & self.groups)

    @functools.cached_property
    def interfaces(self) -> tuple[IPInterface, ...]:
        """Its private addresses with their networks."""
        found = (ipaddress.ip_interface(text) for text in self.private)
        return tuple(it for it in found if it.ip.is_link_local or is_reachable(it.ip))

    @functools.cached_property
    def own_addresses(self) -> tuple[IPAddress, ...]:
        """Its private and public addresses, but for link-local ones."""
        own = (*(interface.ip for interface in self.interfaces), *self.public_addresses)
        return tuple(address for address in own if not address.is_link_local)

    @functools.cached_property
    def own_texts(self) -> tuple[str, ...]:
        """The same as text."""
        return tuple(map(str, self.own_addresses))

    @functools.cached_property
    def public_addresses(self) -> tuple[IPAddress, ...]:
        """Its public addresses."""
        found = (ipaddress.ip_address(text) for text in self.public)
        return tuple(address for address in found if is_reachable(address))
