# SPDX-License-Identifier: Apache-2.0
"""Calls again, soon, peers that did not answer yet.

WireGuard itself waits 5 seconds before it does (REKEY_TIMEOUT, white paper 6.1). Two cases:

* Only this host can call: who was called before it knew of us stays silent. Where both sides can
  call, the one that learns of the other last succeeds at once.
* Both sides called in the same moment: each then answers the other's initiation, which makes it
  forget its own, so that both drop the answers that come. In a mesh that comes up at once this
  happens to some pair nearly always. The side with the lesser key calls again.

A peer without a session loses nothing when it is removed and added anew, which is the only way to
make WireGuard call before its time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from cnsmo.services.vpn.drivers.wg_plan import WantedPeer
from cnsmo.services.vpn.drivers.wg_tools import WgDevice

FIRST_SECONDS = 0.25
TRIES = 5
"""After 0.25, 0.5, 1, 2 and 4 s; from then on WireGuard's own pace will do."""
CROSSED_SECONDS = 1.0
CROSSED_TRIES = 2
"""After 1 and 2 s: such a peer most often has not heard of us yet, and calls when it does."""


class Pushes:
    """When which silent peer is called again. A restart of the agent begins anew: harmless."""

    def __init__(self) -> None:
        self._next: dict[str, _Turn] = {}

    def due(
        self, wanted: Mapping[str, WantedPeer], device: WgDevice, own_key: str, now: float
    ) -> list[WantedPeer]:
        """The peers to call now. own_key: public; now: seconds of any steady clock."""
        silent = {
            key: peer
            for key, peer in wanted.items()
            if (peer.keepalive or own_key < key) and peer.call and key in device.peers
            if not device.peers[key].handshake
        }
        self._next = {key: self._next.get(key) or _first(silent[key], now) for key in silent}
        found = []
        for key, peer in silent.items():
            turn = self._next[key]
            if turn.left and turn.at <= now:
                self._next[key] = _Turn(turn.left - 1, now + 2 * turn.pause, 2 * turn.pause)
                found.append(peer)
        return found

    def again(self, now: float) -> float | None:
        """Seconds until the next one is due; None when none is."""
        waits = [turn.at - now for turn in self._next.values() if turn.left]
        return max(0.05, min(waits)) if waits else None


@dataclasses.dataclass(frozen=True)
class _Turn:
    """When a peer is called next, how often still, and the pause before that; seconds."""

    left: int
    at: float
    pause: float


def _first(peer: WantedPeer, now: float) -> _Turn:
    if peer.keepalive:
        return _Turn(TRIES, now + FIRST_SECONDS, FIRST_SECONDS)
    return _Turn(CROSSED_TRIES, now + CROSSED_SECONDS, CROSSED_SECONDS)
