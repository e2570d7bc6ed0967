# SPDX-License-Identifier: Apache-2.0
"""Which peers a WireGuard device can have together; pure.

Each peer said its keys itself. One that cannot be beside the others is left out and told; a host
that is wrong, or lies, is in nobody else's way.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from cnsmo.model.errors import DriverError
from cnsmo.services.vpn.desired import Peer, VpnDesired
from cnsmo.services.vpn.drivers.wg_tools import render_endpoint, render_key, render_networks

OWN = "this host"


def usable(desired: VpnDesired, own: Iterable[str]) -> tuple[VpnDesired, tuple[str, ...]]:
    """The same with those peers alone that it can have, and why others, or their next keys, are
    left out. Of two that claim one thing the first by name has it.

    own: this host's public keys.
    """
    seen = _Seen(dict.fromkeys(own, OWN))
    peers = [seen.looked_at(peer) for peer in desired.peers]
    kept = tuple(peer for peer in peers if peer is not None)
    return dataclasses.replace(desired, peers=kept), tuple(seen.problems)


class _Seen:
    """Who has which key and which network, so far."""

    def __init__(self, keys: dict[str, str]) -> None:
        self._keys = keys
        self._networks: dict[str, str] = {}
        self.problems: list[str] = []

    def looked_at(self, peer: Peer) -> Peer | None:
        """The peer as it can be, if it can."""
        if not peer.public_key:
            return peer
        try:
            networks = _rendered(peer)
            self._refuse_key(peer.public_key)
            self._refuse_networks(networks)
        except DriverError as exc:
            self.problems.append(f"{peer.host} is left out: {exc}")
            return None
        self._keys[peer.public_key] = peer.host
        self._networks |= dict.fromkeys(networks, peer.host)
        return self._with_next(peer)

    def _with_next(self, peer: Peer) -> Peer:
        if not peer.next_public_key:
            return peer
        try:
            self._refuse_key(render_key(peer.next_public_key))
        except DriverError as exc:
            self.problems.append(f"the next key of {peer.host} is left out: {exc}")
            return dataclasses.replace(peer, next_public_key="")
        self._keys[peer.next_public_key] = peer.host
        return peer

    def _refuse_key(self, key: str) -> None:
        if key in self._keys:
            raise DriverError(
                f"it has the same key as {self._keys[key]} (a copied disk?): remove the directory "
                "'units' below [agent] state_dir on one of the two, and restart its agent"
            )

    def _refuse_networks(self, networks: frozenset[str]) -> None:
        for network in sorted(networks & self._networks.keys()):
            raise DriverError(f"it claims {network}, as {self._networks[network]} does")


def _rendered(peer: Peer) -> frozenset[str]:
    """Its networks; all that it says can be told to wg(8).

    :raises DriverError: when something cannot.
    """
    render_key(peer.public_key)
    if peer.endpoint:
        render_endpoint(peer.endpoint)
    return render_networks(peer.allowed_ips)
