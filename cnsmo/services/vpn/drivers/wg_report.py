# SPDX-License-Identifier: Apache-2.0
"""What an operator is shown of a WireGuard VPN on one host; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cnsmo.services.vpn.desired import Peer, VpnDesired
from cnsmo.services.vpn.drivers import host_side
from cnsmo.services.vpn.drivers.wg_plan import WantedPeer, fresh
from cnsmo.services.vpn.drivers.wg_tools import WgDevice, WgPeer

INITIATION_BYTES = 148
"""Size of a handshake initiation (WireGuard white paper 5.4.2)."""
TRIES = 3
"""So many unanswered initiations, 5 seconds apart, are not bad luck any more."""


def detail(
    desired: VpnDesired,
    wanted: Mapping[str, WantedPeer],
    device: WgDevice,
    interface: str,
    implementation: str,
    now: float,
) -> dict[str, Any]:
    """The device and its peers as JSON; handshake_age in seconds, rx and tx in bytes."""
    keys = {peer.host: key for key, peer in wanted.items() if peer.allowed_ips}
    relays = {relay for _member, relay in desired.relayed}
    return {
        "interface": interface,
        "implementation": implementation,
        "public_key": device.public_key,
        "peers": {
            peer.host: _peer(peer, device.peers.get(keys.get(peer.host, "")), relays, now)
            for peer in desired.peers
        },
        "relayed": dict(desired.relayed),
    }


def problems(
    desired: VpnDesired,
    device: WgDevice,
    blocked: Mapping[str, str],
    behind: Mapping[str, str | None],
    now: float,
) -> list[str]:
    """What is in force and does not work.

    blocked: routes that somebody else has, and where to; behind: see forwarding.entrances().
    """
    found = [
        f"{peer.host} has announced no key yet" for peer in desired.peers if not peer.public_key
    ]
    found += host_side.problems(blocked, behind)
    called = [peer for peer in device.peers.values() if peer.keepalive and peer.allowed_ips]
    if called and all(_silent(peer, now) for peer in called):
        found.append(
            f"none of the {len(called)} peers that this host keeps a way open to answers: "
            f"do packets to and from UDP port {desired.listen_port} pass?"
        )
    return found


def _peer(peer: Peer, has: WgPeer | None, relays: set[str], now: float) -> dict[str, Any]:
    path = "relay" if peer.host in relays else "direct" if peer.endpoint else "calls-us"
    if has is None:
        return {"path": path, "handshake_age": None}
    return {
        "endpoint": has.endpoint,
        "handshake_age": max(0, round(now - has.handshake)) if has.handshake else None,
        "rx": has.rx,
        "tx": has.tx,
        "allowed_ips": sorted(has.allowed_ips),
        "path": path,
    }


def _silent(peer: WgPeer, now: float) -> bool:
    """Whether a peer that packets are sent to all the time does not answer them."""
    if not peer.handshake:
        return peer.tx >= TRIES * INITIATION_BYTES
    return not fresh(peer, now)
