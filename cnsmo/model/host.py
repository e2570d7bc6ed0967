# SPDX-License-Identifier: Apache-2.0
"""A host: what it found out about itself, and what the core knows about it."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from cnsmo.model.names import ALL, Address, Interface, IPAddress, IPInterface, Label


class HostFacts(BaseModel):
    """What a host announces about itself; everything in it is checked before it is stored.

    ``private``: its addresses with prefix lengths on its own interfaces. ``public``: the address
    under which other sites reach it. ``behind_nat``: nobody outside its own subnet can call it.
    ``mtu``: bytes, of the interface that holds the default route.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    site: Label = "default"
    private: Annotated[tuple[Interface, ...], Field(max_length=16)] = ()
    public: Annotated[tuple[Address, ...], Field(max_length=4)] = ()
    behind_nat: bool = False
    mtu: Annotated[int, Field(ge=576, le=65535)] = 1500
    instance_id: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9._-]*$")] = ""


class Host(HostFacts):
    """A host as everybody sees it: its facts, and the groups that its token granted.

    ``quarantined``: an operator has taken it out of everything, see View.hosts.
    """

    name: Label
    id: str
    groups: frozenset[Label] = frozenset()
    quarantined: bool = False

    def within(self, groups: Iterable[str]) -> bool:
        """Whether it belongs to at least one of the groups; ``all`` is every host's."""
        wanted = frozenset(groups)
        return ALL in wanted or bool(wanted & self.groups)

    @functools.cached_property
    def interfaces(self) -> tuple[IPInterface, ...]:
        """Its private addresses with their networks."""
        return tuple(ipaddress.ip_interface(text) for text in self.private)

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
        return tuple(ipaddress.ip_address(text) for text in self.public)
