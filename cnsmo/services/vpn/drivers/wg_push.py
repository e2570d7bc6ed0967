# SPDX-License-Identifier: Apache-2.0
"""Which silent peers are called when, so that two hosts never call each other in the same moment.

Two that do lose both handshakes: each answers the other's initiation, which makes it forget its own
and drop the answer. WireGuard tries again after 5 seconds (REKEY_TIMEOUT, white paper 6.1).
wireguard-go (0.0.20231211) can do worse: where initiation and answer arrive together, two of its
workers mix them up (ConsumeMessageResponse does not look at the state again before it writes, as
Linux does). Then both sides show a handshake, one hears nothing, and only 15 seconds later it
notices. In a mesh that comes up at once somebody's calls always cross. So one of the two calls
(compile.py says which), and calls again soon if the other did not know of it yet:

* The caller at once, then after 0.25, 0.5, 1, 2 and 4 s. To call before its time, WireGuard has to
  forget the peer: it is removed and added anew. That is harmless even where a session has just come
  up, because the other side answers the new call.
* The other one once, after 1 s, and without removal: it may be that the caller cannot reach it.

Only a peer that is made anew, with its interface or after somebody deleted it, is called from
either side: the other one may believe in the old session. After these calls, WireGuard's own pace
will do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from cnsmo.services.vpn.drivers.wg_plan import WantedPeer, add_words, kick
from cnsmo.services.vpn.drivers.wg_tools import WgDevice

CALLER_PAUSES = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
"""Seconds before each call of the side that calls; the first one leaves the peer as it is."""
OTHER_PAUSES = (1.0,)


class Pushes:
    """The calls to come. A restart of the agent begins anew: harmless."""

    def __init__(self) -> None:
        self._turns: dict[str, _Turn] = {}

    def due(
        self, wanted: Mapping[str, WantedPeer], device: WgDevice, now: float
    ) -> list[tuple[str, ...]]:
        """Words for ``wg set`` that make the calls which are due.

        device: as it was before the missing peers were added, which calls them; now: seconds of any
        steady clock.
        """
        silent = {key: peer for key, peer in wanted.items() if peer.call and _silent(device, key)}
        for key in self._turns.keys() - silent.keys():
            del self._turns[key]
        words = []
        for key, peer in silent.items():
            turn = self._turns.get(key) or _Turn.first(peer, now)
            if turn.at is not None and turn.at <= now:
                if key in device.peers:
                    words += turn.words(peer)
                turn = turn.after(now)
            self._turns[key] = turn
        return words

    def again(self, now: float) -> float | None:
        """Seconds until the next one is due; None when none is."""
        waits = [turn.at - now for turn in self._turns.values() if turn.at is not None]
        return max(0.05, min(waits)) if waits else None


@dataclasses.dataclass(frozen=True)
class _Turn:
    """How often a peer was called, the pauses before each call, and when the next one is due."""

    made: int
    pauses: tuple[float, ...]
    at: float | None

    @classmethod
    def first(cls, peer: WantedPeer, now: float) -> _Turn:
        pauses = CALLER_PAUSES if peer.calls else OTHER_PAUSES
        return cls(0, pauses, now + pauses[0])

    def after(self, now: float) -> _Turn:
        made = self.made + 1
        at = now + self.pauses[made] if made < len(self.pauses) else None
        return _Turn(made, self.pauses, at)

    def words(self, peer: WantedPeer) -> list[tuple[str, ...]]:
        if self.made == 0:
            return [("peer", peer.public_key, *kick(peer))]
        return [("peer", peer.public_key, "remove"), add_words(peer)]


def _silent(device: WgDevice, key: str) -> bool:
    return key not in device.peers or not device.peers[key].handshake
