# SPDX-License-Identifier: Apache-2.0
"""What has to change on a WireGuard device; pure.

Replacing a key without a gap
-----------------------------
A peer's packets are accepted only under the key that has their source address among its allowed
IPs, and an address belongs to one key at a time. So the host with the new key and each of its peers
have to change something, and cannot do it in the same moment. In one order packets are lost, in
the other they only wait (measured: none of 10 pings a second is lost):

1. The host puts its new private key in force *first*, then announces it. It still receives under
   the old sessions; what it sends needs a handshake, which the peer, not knowing the new key yet,
   does not answer: up to 128 packets per peer are held back (MAX_STAGED_PACKETS in Linux,
   QueueStagedSize in wireguard-go) and sent once the handshake is done.
2. The peer learns of it and moves the allowed IPs, adding the new key before it removes the old
   one, and starts the handshake itself. It calls where the old key was last heard from, since
   the host may sit behind a NAT.

Therefore a next key that is only announced is *not* configured: the handshake of step 1 would
succeed, and the packets be dropped instead of held. It is tried only when a peer has been
silent for long: then the announcement of step 2 may have been lost with the core, and an answer
proves that the next key is in force.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from cnsmo.model.errors import DriverError
from cnsmo.services.vpn.desired import Peer, VpnDesired
from cnsmo.services.vpn.drivers.wg_memory import PeerMemory
from cnsmo.services.vpn.drivers.wg_tools import (
    WgDevice,
    WgPeer,
    render_endpoint,
    render_key,
    render_networks,
)

SESSION_SECONDS = 180
"""A session is not used any longer than this (REJECT_AFTER_TIME, WireGuard white paper 6.1)."""
PATIENCE_SECONDS = 60
"""How long a next key must have been known before a silent peer is tried with it."""
TRIAL_KEEPALIVE = 5
"""Seconds between attempts to reach a peer under its next key (REKEY_TIMEOUT)."""


@dataclasses.dataclass(frozen=True)
class WantedPeer:
    """A peer as the device shall have it.

    ``endpoint``: None where the peer calls us; ``call``: where to reach it first, if anywhere;
    ``calls``: whether this side starts the conversation; ``known``: whether it had been a peer, and
    may believe in a session with us; ``replaces``: whether the device has the same host under
    another key.
    """

    host: str
    public_key: str
    endpoint: str | None
    allowed_ips: frozenset[str]
    keepalive: int
    call: str | None = None
    calls: bool = False
    known: bool = False
    replaces: bool = False


@dataclasses.dataclass(frozen=True)
class WgStep:
    """One difference: how it was found, what is said once it is gone, and words for ``wg set``."""

    found: str
    repaired: str
    args: tuple[str, ...]


def wanted_peers(
    desired: VpnDesired, device: WgDevice | None, memory: Mapping[str, PeerMemory], now: float
) -> dict[str, WantedPeer]:
    """The peers that the device shall have, by key; those that announced no key are left out.

    now: seconds since the epoch.

    :raises DriverError: when a value cannot be rendered, or two peers claim the same network.
    """
    has: Mapping[str, WgPeer] = device.peers if device else {}
    wanted: dict[str, WantedPeer] = {}
    for peer in desired.peers:
        if not peer.public_key:
            continue
        known = memory.get(peer.host)
        for made in _keys_of(peer, has, known, now):
            if made.public_key in wanted:
                raise DriverError(
                    f"{wanted[made.public_key].host} and {made.host} announce the same key "
                    "(a copied disk?): remove the key of one of them and restart its agent"
                )
            wanted[made.public_key] = made
    _refuse_doubles(wanted.values())
    return wanted


def peer_steps(
    wanted: Mapping[str, WantedPeer],
    device: WgDevice,
    memory: Mapping[str, PeerMemory],
    now: float,
) -> list[WgStep]:
    """The peers' differences; additions first, so that what moves is never without an owner."""
    steps = []
    for key in sorted(wanted, key=lambda key: wanted[key].host):
        peer = wanted[key]
        if key not in device.peers:
            steps.append(_add(peer))
        else:
            steps += _change(peer, device.peers[key], memory.get(peer.host), now)
    hosts = {known.key: host for host, known in memory.items()}
    for key in sorted(device.peers.keys() - wanted.keys()):
        who = f"{hosts[key]} ({key})" if key in hosts else key
        args = (*_of(key), "remove")
        steps.append(WgStep(f"{who} is a peer and should not be", f"peer {who} removed", args))
    return steps


def remember(
    desired: VpnDesired,
    wanted: Mapping[str, WantedPeer],
    device: WgDevice,
    memory: Mapping[str, PeerMemory],
    now: float,
) -> dict[str, PeerMemory]:
    """What to keep for the next time."""
    holders = {peer.host: key for key, peer in wanted.items() if peer.allowed_ips}
    called = {
        peer.host: device.peers[key].endpoint
        for key, peer in wanted.items()
        if key in device.peers and peer.endpoint is None
    }
    kept = {}
    for peer in desired.peers:
        if not peer.public_key:
            continue
        known = memory.get(peer.host)
        same = known is not None and known.next_key == peer.next_public_key
        kept[peer.host] = PeerMemory(
            key=holders.get(peer.host, peer.public_key),
            endpoint=render_endpoint(peer.endpoint) if peer.endpoint else None,
            seen=called.get(peer.host) or (known.seen if known else None),
            next_key=peer.next_public_key,
            next_since=known.next_since if known and same else now,
        )
    return kept


def kick(peer: WantedPeer) -> list[str]:
    """Words for ``wg set`` that go on from those of the peer, and make it start a handshake.

    Switching the keepalive on sends a packet at once; there is no other command for it.
    """
    if peer.keepalive:
        return ["persistent-keepalive", str(peer.keepalive)]
    if peer.call:
        return ["persistent-keepalive", "1", *_of(peer.public_key), "persistent-keepalive", "0"]
    return []


def fresh(peer: WgPeer | None, now: float) -> bool:
    """Whether a peer's session is in force; now: seconds since the epoch."""
    return peer is not None and bool(peer.handshake) and now - peer.handshake <= SESSION_SECONDS


def _keys_of(
    peer: Peer, has: Mapping[str, WgPeer], known: PeerMemory | None, now: float
) -> list[WantedPeer]:
    """The key under which a host is a peer, and, when it is silent, its next one on trial."""
    current, following = render_key(peer.public_key), peer.next_public_key
    if following and following in has and has[following].handshake:
        return [_wanted(peer, render_key(following), has, known)]
    made = [_wanted(peer, current, has, known)]
    long_known = known and known.next_key == following and now - known.next_since > PATIENCE_SECONDS
    if following and long_known and not fresh(has.get(current), now):
        trial = _wanted(peer, render_key(following), has, known)
        made.append(dataclasses.replace(trial, allowed_ips=frozenset(), keepalive=TRIAL_KEEPALIVE))
    return made


def _wanted(
    peer: Peer, key: str, has: Mapping[str, WgPeer], known: PeerMemory | None
) -> WantedPeer:
    former = has.get(known.key) if known and known.key != key else None
    own = render_endpoint(peer.endpoint) if peer.endpoint else None
    return WantedPeer(
        host=peer.host,
        public_key=key,
        endpoint=own,
        allowed_ips=render_networks(peer.allowed_ips),
        keepalive=peer.keepalive or 0,
        call=(former.endpoint if former else None) or own or (known.seen if known else None),
        calls=peer.calls,
        known=known is not None,
        replaces=former is not None,
    )


def add_words(peer: WantedPeer) -> tuple[str, ...]:
    """Words for ``wg set`` that add a peer, and call it where it is this side that calls.

    Also where it may believe in a session that we do not have any more: its packets would be lost
    until it notices, after 15 seconds (white paper 6.5).
    """
    words = [*_of(peer.public_key)]
    if peer.call:
        words += ["endpoint", render_endpoint(peer.call)]
    words += ["allowed-ips", ",".join(sorted(peer.allowed_ips))]
    now = peer.calls or peer.known or peer.keepalive
    return (*words, *kick(peer)) if now else tuple(words)


def _add(peer: WantedPeer) -> WgStep:
    words = add_words(peer)
    if not peer.allowed_ips:
        found = f"peer {peer.host} is silent; its next key has not been tried"
        return WgStep(found, f"peer {peer.host}: next key on trial", words)
    if peer.replaces:
        found = f"peer {peer.host} has another key than it announced"
        return WgStep(found, f"peer {peer.host}: new key", words)
    return WgStep(f"peer {peer.host} is missing", f"peer {peer.host} added", words)


def _change(peer: WantedPeer, has: WgPeer, known: PeerMemory | None, now: float) -> list[WgStep]:
    steps = []
    start = _of(peer.public_key)

    def differs(what: str, *args: str) -> None:
        found = f"peer {peer.host} has {what}"
        steps.append(WgStep(found, f"peer {peer.host}: {args[0]} set", (*start, *args)))

    if has.allowed_ips != peer.allowed_ips:
        shown = ",".join(sorted(has.allowed_ips)) or "none"
        differs(f"the allowed IPs {shown}", "allowed-ips", ",".join(sorted(peer.allowed_ips)))
    if has.keepalive != peer.keepalive:
        differs(f"the keepalive {has.keepalive}", "persistent-keepalive", str(peer.keepalive))
    if has.preshared:
        differs("a preshared key", "preshared-key", "/dev/null")
    if peer.endpoint and has.endpoint != peer.endpoint and not _roamed(peer, has, known, now):
        differs(f"the endpoint {has.endpoint or 'none'}", "endpoint", peer.endpoint)
    return steps


def _roamed(peer: WantedPeer, has: WgPeer, known: PeerMemory | None, now: float) -> bool:
    """Whether an unexpected endpoint is where the peer moved to by itself, and answers."""
    applied = known.endpoint if known else None
    return has.endpoint is not None and applied == peer.endpoint and fresh(has, now)


def _refuse_doubles(peers: Iterable[WantedPeer]) -> None:
    owners: dict[str, str] = {}
    for peer in peers:
        for network in peer.allowed_ips:
            if network in owners:
                raise DriverError(f"{owners[network]} and {peer.host} both claim {network}")
            owners[network] = peer.host


def _of(key: str) -> tuple[str, str]:
    return ("peer", key)
