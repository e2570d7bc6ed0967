# SPDX-License-Identifier: Apache-2.0
"""The desired state of a host's firewall: what compile() makes, drivers realise, explain() reads.

A packet that begins a flow is judged in one *realm*: on a VPN's interface, or on the underlay,
which is every other interface. Each realm has lists of lines of its own, so that a group is matched
on its members' VPN addresses on that VPN, and on their underlay addresses elsewhere. Flows that
were allowed to begin, and what belongs to them, are not judged again; neither is the loopback.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import ipaddress
from collections.abc import Iterable, Mapping

from cnsmo.model.names import IPAddress
from cnsmo.services.base import Desired

UNDERLAY = ""
"""The realm of every interface that is no VPN's."""
DEFAULT = "default"
"""Stands in place of a rule's name where none matched."""
SPOOFED = "always/anti-spoofing"
"""The rule that drops what comes from the underlay with an address of a VPN's."""


class Direction(enum.StrEnum):
    """As seen from the host."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


class Action(enum.StrEnum):
    """What becomes of a packet."""

    ACCEPT = "accept"
    DROP = "drop"
    REJECT = "reject"

    @classmethod
    def strictest(cls, actions: Iterable[Action]) -> Action:
        """Of several, the one that holds: drop before reject before accept."""
        return min(actions, key=(cls.DROP, cls.REJECT, cls.ACCEPT).index)


class Kind(enum.StrEnum):
    """What a part is for."""

    ALWAYS = "always"
    """What no rule may forbid; a packet that no line matches goes on to the next part."""
    AUDIT = "audit"
    """An instance that is tried out: it counts and logs what it would do, and decides nothing."""
    ENFORCE = "enforce"
    """All enforced instances, one after the other: here every packet meets its verdict."""


@dataclasses.dataclass(frozen=True)
class Rate:
    """So many packets per ``unit``: second, minute, hour or day."""

    count: int
    unit: str


@dataclasses.dataclass(frozen=True)
class Line:
    """A rule in one realm, for one IP version; of a part's lines the first that matches decides.

    ``rule``: whose it is, as ``perimeter/inbound/2`` or ``perimeter/inbound/ssh``; safe to render.
    ``version``: 4 or 6; 0, for both, only where no address is looked at. ``peers``: name of the set
    that the other side's address must be in; None: any. ``local``: networks that this side's
    address must be in; empty: any. ``protocol``: a number of IANA's; None: any. ``ports``:
    destination, first and last of each range; empty: any. ``types``: of ICMP, numbers; empty: any.
    ``limit``: per source; a packet beyond it does not match. ``log``: up to which rate matches are
    logged. ``network``: instead of a set, the one network that the other side's address must be in.
    """

    rule: str
    action: Action
    version: int = 0
    peers: str | None = None
    local: tuple[str, ...] = ()
    protocol: int | None = None
    ports: tuple[tuple[int, int], ...] = ()
    types: tuple[int, ...] = ()
    limit: Rate | None = None
    log: Rate | None = None
    network: str | None = None


@dataclasses.dataclass(frozen=True)
class Part:
    """Lines by realm (every realm of the host is there), in one direction.

    ``instance``: whose audit it is; "" for the others. ``default``: what becomes of a packet that
    no line matches; None for what is always open. ``log``: up to which rate that is logged.
    """

    kind: Kind
    direction: Direction
    realms: Mapping[str, tuple[Line, ...]]
    default: Action | None = None
    instance: str = ""
    log: Rate | None = None


@dataclasses.dataclass(frozen=True)
class FirewallDesired(Desired):
    """The firewall of one host.

    ``parts``: in the order in which a packet meets them. ``interfaces``: of each VPN realm, its
    interface on this host. ``pools``: the VPNs' own networks, whose addresses nobody may use as a
    source on the underlay; none where nothing is enforced. ``sets``: by name, addresses and
    networks of one IP version each, sorted; a name ends in ``_4`` or ``_6`` and is safe to render.
    ``cut``: flows that began earlier and are not allowed any more are ended. ``confirm``: seconds
    within which the way to the core must prove open after a change, else the last good policy
    returns.
    """

    parts: tuple[Part, ...]
    interfaces: Mapping[str, str] = dataclasses.field(default_factory=dict)
    pools: tuple[str, ...] = ()
    sets: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    cut: bool = True
    confirm: int = 30

    def holds(self, name: str, address: IPAddress) -> bool:
        """Whether an address is in a set, whose thousands of elements are read once."""
        if name not in self._read:
            self._read[name] = _Elements(self.sets[name])
        return address in self._read[name]

    @functools.cached_property
    def _read(self) -> dict[str, _Elements]:
        return {}


class _Elements:
    def __init__(self, items: Iterable[str]) -> None:
        self._single = {ipaddress.ip_address(item) for item in items if "/" not in item}
        self._wide = [ipaddress.ip_network(item) for item in items if "/" in item]

    def __contains__(self, address: IPAddress) -> bool:
        return address in self._single or any(address in network for network in self._wide)
