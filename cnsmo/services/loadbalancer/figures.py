# SPDX-License-Identifier: Apache-2.0
"""What a driver tells of a load balancer, as figures; pure. See LoadBalancerDriver for the form."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from typing import Any

from cnsmo.services.figure import Figure

STATES = ("up", "down", "drain", "leaving", "unchecked")
WHAT = "requests, or connections in the modes tcp and udp"
SERVER = {
    "weight": ("server_weight", "How much of the whole a server gets", False),
    "sessions": ("server_current_sessions", "Connections that a server has", False),
    "total": ("server_requests", f"What a server was sent: {WHAT}", True),
    "rate": ("server_request_rate", f"What a server is sent per second: {WHAT}", False),
    "errors": ("server_errors", "Connections and answers of a server that failed", True),
}
FRONTEND = {
    "sessions": ("frontend_current_sessions", "Connections of clients", False),
    "total": ("frontend_requests", f"What clients sent: {WHAT}", True),
    "rate": ("frontend_request_rate", f"What clients send per second: {WHAT}", False),
    "errors": ("frontend_errors", "What clients sent that is no request", True),
}
"""Name, meaning, and whether it is a counter, by the key in a driver's detail."""


def figures(detail: Mapping[str, Any]) -> Iterator[Figure]:
    """All figures of a balancer on one of its carriers; what a driver does not know is missing."""
    for pool, servers in (detail.get("servers") or {}).items():
        for server, seen in servers.items():
            labels = {"pool": pool, "server": server}
            yield from _state(labels, seen.get("state"))
            yield from _numbers(SERVER, labels, seen)
    for listen, seen in (detail.get("frontends") or {}).items():
        yield from _numbers(FRONTEND, {"listen": listen}, seen)
        if "state" in seen:
            meaning = "Whether more clients wait than it may take"
            yield Figure(
                "frontend_full", meaning, float(seen["state"] == "full"), {"listen": listen}
            )
    for path, seen in (detail.get("certificates") or {}).items():
        ends = datetime.datetime.fromisoformat(seen["expires"]).timestamp()
        meaning = "When a certificate ends, in seconds of the epoch"
        yield Figure("certificate_expiry_timestamp_seconds", meaning, ends, {"file": path})
    if "vip" in detail:
        yield Figure("vip_held", "Whether this carrier holds the VIP", float(bool(detail["vip"])))


def _state(labels: Mapping[str, str], now: object) -> Iterator[Figure]:
    for state in STATES:
        yield Figure(
            "server_state", "1 for the state that a server is in", float(state == now),
            {**labels, "state": state},
        )  # fmt: skip


def _numbers(
    known: Mapping[str, tuple[str, str, bool]], labels: Mapping[str, str], seen: Mapping[str, Any]
) -> Iterator[Figure]:
    for key, (name, meaning, counter) in known.items():
        if seen.get(key) is not None:
            yield Figure(name, meaning, float(seen[key]), labels, counter)
