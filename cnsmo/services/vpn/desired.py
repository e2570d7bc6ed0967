# SPDX-License-Identifier: Apache-2.0
"""The desired state of one VPN on one host: what compile() makes and the drivers realise."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from cnsmo.services.base import Desired


@dataclasses.dataclass(frozen=True)
class Peer:
    """Another member that this host has a tunnel with.

    ``endpoint``: address:port to call (IPv6 in brackets); None: the peer calls us.
    ``allowed_ips``: networks that this peer may send from and that are sent to it.
    ``keepalive``: seconds, where this side must keep a NAT open; None elsewhere.
    ``calls``: this side starts the conversation; the other one only where nothing comes of it.
    ``is_hub``: in a hub topology, the peer is one of the hubs.
    """

    host: str
    addresses: tuple[str, ...]
    endpoint: str | None
    allowed_ips: tuple[str, ...]
    keepalive: int | None = None
    calls: bool = False
    public_key: str = ""
    next_public_key: str = ""
    fingerprint: str = ""
    next_fingerprint: str = ""
    is_hub: bool = False


@dataclasses.dataclass(frozen=True)
class VpnDesired(Desired):
    """One VPN on one host.

    ``addresses``: this host's own, with the VPN's prefix length. ``mtu``: bytes. ``routes``:
    networks beyond the VPN's own that lead into it. ``forward``: this host passes packets on
    between members, or to ``gateway_for``. ``is_hub``: in a hub topology, this host is a hub.
    ``relayed``: members reached through another one: (member, relay). ``carrier``: in a hub
    topology, the host through which everything goes; "" where there is none.
    """

    name: str
    addresses: tuple[str, ...]
    listen_port: int
    mtu: int
    peers: tuple[Peer, ...]
    routes: tuple[str, ...] = ()
    forward: bool = False
    gateway_for: tuple[str, ...] = ()
    is_hub: bool = False
    relayed: tuple[tuple[str, str], ...] = ()
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    carrier: str = ""
