# SPDX-License-Identifier: Apache-2.0
"""What an operator is shown of an OpenVPN on one host; pure."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from cnsmo.services.vpn.desired import VpnDesired
from cnsmo.services.vpn.drivers.openvpn_config import Plan
from cnsmo.services.vpn.drivers.openvpn_management import CONNECTED, Session, State


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the daemon said: ``sessions`` on the hub, ``traffic`` (bytes in and out) elsewhere."""

    state: State
    sessions: tuple[Session, ...] = ()
    traffic: tuple[int, int] = (0, 0)


def detail(
    desired: VpnDesired, plan: Plan, answer: Answer | None, interface: str
) -> dict[str, Any]:
    """The daemon and its peers as JSON.

    handshake_age: seconds since the tunnel to the peer came up, None while it is not; rx and tx in
    bytes. A session that stays up makes new keys every hour, and ends within half a minute when
    the other side is silent.
    """
    peers: dict[str, dict[str, Any]] = {}
    for peer in desired.peers:
        path = "direct" if plan.hub == peer.host else "calls-us" if plan.serves else "relay"
        peers[peer.host] = {"path": path, "handshake_age": None}
    if answer is not None and plan.serves:
        for session in answer.sessions:
            peers.get(session.host, {}).update(_session(session))
    if answer is not None and plan.hub in peers and answer.state.name == CONNECTED:
        peers[plan.hub].update(_connection(answer, time.time()))
    return {
        "interface": interface,
        "implementation": "openvpn",
        "state": answer.state.name if answer else "down",
        "peers": peers,
        "relayed": dict(desired.relayed),
    }


def problems(desired: VpnDesired, plan: Plan, answer: Answer | None, last_words: str) -> list[str]:
    """What is in force and does not work; last_words: the end of the daemon's log."""
    found = [
        f"{peer.host} has announced no certificate yet"
        for peer in desired.peers
        if not peer.fingerprint and plan.serves
    ]
    if plan.config is None:
        return found
    if answer is None:
        found.append("openvpn does not answer")
    elif plan.hub is not None and answer.state.name != CONNECTED:
        found.append(f"not connected to the hub {plan.hub}")
    return found


def connected(plan: Plan, answer: Answer | None) -> bool:
    """Whether the daemon is where it shall be: ready for clients, at the hub, or not there."""
    return plan.config is None or (answer is not None and answer.state.name == CONNECTED)


def _session(session: Session) -> dict[str, Any]:
    return {
        "endpoint": session.endpoint,
        "handshake_age": round(session.age),
        "rx": session.received,
        "tx": session.sent,
        "allowed_ips": sorted(session.networks),
    }


def _connection(answer: Answer, now: float) -> dict[str, Any]:
    return {
        "endpoint": answer.state.remote,
        "handshake_age": max(0, round(now - answer.state.since)),
        "rx": answer.traffic[0],
        "tx": answer.traffic[1],
    }
