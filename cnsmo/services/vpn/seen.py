# SPDX-License-Identifier: Apache-2.0
"""What drivers tell of a VPN on one host."""

from __future__ import annotations

from cnsmo.services.seen import Count, Number, Seen


class PeerSeen(Seen):
    """handshake_age in seconds; rx, tx in bytes."""

    path: str = ""
    endpoint: str | None = None
    handshake_age: Number | None = None
    rx: Count | None = None
    tx: Count | None = None


class VpnSeen(Seen):
    """Peers by host; relayed: a member, and who passes on what is for it."""

    peers: dict[str, PeerSeen] = {}
    relayed: dict[str, str] = {}
