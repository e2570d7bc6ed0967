# SPDX-License-Identifier: Apache-2.0
"""Calls again, soon, peers that only this host can call and that did not answer yet.

Who was called before it knew of us stays silent; WireGuard itself tries again after 5 seconds only
(REKEY_TIMEOUT, white paper 6.1). Where both sides can call, the one that learns of the other last
succeeds at once; behind NAT there is only one that can.
"""

from __future__ import annotations

from collections.abc import Mapping

from cnsmo.services.vpn.drivers.wg_plan import WantedPeer
from cnsmo.services.vpn.drivers.wg_tools import WgDevice

FIRST_SECONDS = 0.25
TRIES = 5
"""After 0.25, 0.5, 1, 2 and 4 s; from then on WireGuard's own pace will do."""


class Pushes:
    """When which silent peer is called again. A restart of the agent begins anew: harmless."""

    def __init__(self) -> None:
        self._next: dict[str, tuple[int, float]] = {}

    def due(
        self, wanted: Mapping[str, WantedPeer], device: WgDevice, now: float
    ) -> list[WantedPeer]:
        """The peers to call now; now: seconds of any steady clock."""
        silent = {
            key: peer
            for key, peer in wanted.items()
            if peer.keepalive and peer.call and key in device.peers
            if not device.peers[key].handshake
        }
        self._next = {key: self._next.get(key, (0, now + FIRST_SECONDS)) for key in silent}
        found = []
        for key, peer in silent.items():
            tried, at = self._next[key]
            if at <= now and tried < TRIES:
                self._next[key] = (tried + 1, now + FIRST_SECONDS * 2 ** (tried + 1))
                found.append(peer)
        return found

    def again(self, now: float) -> float | None:
        """Seconds until the next one is due; None when none is."""
        waits = [at - now for tried, at in self._next.values() if tried < TRIES]
        return max(0.05, min(waits)) if waits else None
