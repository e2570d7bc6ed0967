# SPDX-License-Identifier: Apache-2.0
"""Who is meant by the words of a rule, as sets of addresses; pure.

A set's name depends on the words alone, its elements on who is there: when a host comes or goes,
only elements change.
"""

from __future__ import annotations

import hashlib
import ipaddress
import itertools
import re
from collections.abc import Mapping

from cnsmo.model.host import Host
from cnsmo.model.names import ALL, IPNetwork
from cnsmo.model.resource import View
from cnsmo.services.base import Segment
from cnsmo.services.firewall.desired import UNDERLAY
from cnsmo.services.firewall.terms import ANY, is_network

SHORT = {"group": "g", "host": "h"}


class Peers:
    """Collects the sets that a host's rules need."""

    def __init__(self, view: View, segments: Mapping[str, Segment]) -> None:
        """segments: the VPNs of the host, by name."""
        self._view = view
        self._segments = segments
        self._gone = view.gone
        self._addresses: dict[tuple[str, ...], tuple[set[str], set[str]]] = {}
        self.sets: dict[str, tuple[str, ...]] = {}

    def anybody(self, terms: tuple[str, ...], realm: str) -> bool:
        """Whether everybody in a realm is meant."""
        return ANY in terms or bool(realm and f"vpn:{realm}" in terms)

    def named(
        self, terms: tuple[str, ...], realm: str, version: int, label: str | None = None
    ) -> str | None:
        """Name of the set of those who are meant; None where the terms can mean nobody there.

        label: to name the set after, where the terms themselves follow the membership. Hosts that
        are taken for down are in it all the same: what they need may well be working.
        """
        able = [
            term
            for term in terms
            if (":" in term) == (version == 6) or not is_network(term)
            if not term.startswith("vpn:")
        ]
        if not able:
            return None
        name = f"{_slug(tuple(able), label)}_{_realm(realm)}_{version}"
        if name not in self.sets:
            whose = [term for term in able if not is_network(term)]
            members = self._of_versions(whose, realm, gone=bool(label))[version == 6]
            networks = [ipaddress.ip_network(term) for term in able if is_network(term)]
            self.sets[name] = (
                _merged([*networks, *map(ipaddress.ip_network, members)])
                if networks
                else tuple(sorted(members))
            )
        return name

    @staticmethod
    def network(terms: tuple[str, ...], version: int) -> str | None:
        """The network that the terms come to in an IP version, if they name nobody and are one.

        It needs no set: thousands of sets take the kernel long, it looks for each among all.
        """
        if not all(map(is_network, terms)):
            return None
        alike = [term for term in terms if (":" in term) == (version == 6)]
        if len(alike) > 1:
            alike = list(_merged([ipaddress.ip_network(term) for term in alike]))
        return alike[0] if len(alike) == 1 else None

    @staticmethod
    def means(kind: str, name: str, host: Host) -> bool:
        """Whether a name means a host: its own, or that of one of its groups (kind: which)."""
        return (kind != "group" and host.name == name) or (kind != "host" and host.within([name]))

    def _of_versions(self, terms: list[str], realm: str, gone: bool) -> tuple[set[str], set[str]]:
        """Addresses of those who are named, of IPv4 and of IPv6; gone: of those too who are."""
        key = (realm, str(gone), *terms)
        if key not in self._addresses:
            hosts = [host for term in terms for host in self._hosts(term)]
            if self._gone and not gone:
                hosts = [host for host in hosts if host.name not in self._gone]
            if realm == UNDERLAY:
                texts = [host.own_texts for host in hosts]
            else:
                members = self._segments[realm].members
                texts = [members.get(host.name, ()) for host in hosts]
            everything = set(itertools.chain.from_iterable(texts))
            six = {address for address in everything if ":" in address}
            self._addresses[key] = (everything - six if six else everything), six
        return self._addresses[key]

    def _hosts(self, term: str) -> list[Host]:
        """As means(), of thousands at once."""
        kind, _colon, name = term.rpartition(":")
        hosts = self._view.hosts
        found = [hosts[name]] if kind != "group" and name in hosts else []
        if kind != "host":
            everybody = hosts.values()
            found += everybody if name == ALL else [it for it in everybody if name in it.groups]
        return found


def _merged(networks: list[IPNetwork]) -> tuple[str, ...]:
    """Sorted, without what others hold: as nftables keeps a set of networks."""
    found = ipaddress.collapse_addresses(networks)  # type: ignore[type-var]
    return tuple(str(net.network_address) if net.num_addresses == 1 else str(net) for net in found)


def _slug(terms: tuple[str, ...], label: str | None) -> str:
    if label is not None:
        return re.sub(r"[^a-z0-9]+", "_", label.lower())
    if len(terms) == 1 and not is_network(terms[0]):
        kind, _colon, name = terms[0].rpartition(":")
        return f"{SHORT.get(kind, 'm')}_{name.replace('-', '_')}"
    return "x_" + hashlib.sha256(",".join(terms).encode()).hexdigest()[:12]


def _realm(realm: str) -> str:
    return f"v_{realm.replace('-', '_')}" if realm else "u"
