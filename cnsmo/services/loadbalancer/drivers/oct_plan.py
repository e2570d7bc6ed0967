# SPDX-License-Identifier: Apache-2.0
"""From a load balancer of ours to Octavia's words; pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from cnsmo.model.messages import Problem
from cnsmo.services.loadbalancer.desired import (
    Algorithm,
    Check,
    Checking,
    LoadBalancerDesired,
    Mode,
    Persistence,
    Pool,
    Server,
)
from cnsmo.services.loadbalancer.features import Feature
from cnsmo.services.loadbalancer.spec import LoadBalancerSpec
from cnsmo.services.provider import refusal

CAN = frozenset({
    Feature.HTTP, Feature.TCP, Feature.UDP, Feature.ROUNDROBIN, Feature.LEASTCONN, Feature.SOURCE,
    Feature.WEIGHTS, Feature.BACKUP, Feature.CHECK_TCP, Feature.CHECK_HTTP,
    Feature.PERSIST_SOURCE, Feature.MAX_CONNECTIONS, Feature.PROXY_SEND, Feature.ALLOW, Feature.VIP,
})  # fmt: skip
ALGORITHMS = {
    Algorithm.ROUNDROBIN: "ROUND_ROBIN",
    Algorithm.LEASTCONN: "LEAST_CONNECTIONS",
    Algorithm.SOURCE: "SOURCE_IP",
}
PROXY = {"v1": "PROXY", "v2": "PROXYV2"}
MOST_TRIES = 10
"""Octavia's bound for good and bad checks in a row."""
FORWARDED = {"X-Forwarded-For": "true", "X-Forwarded-Proto": "true"}
STATES = {
    "ONLINE": "up",
    "ERROR": "down",
    "OFFLINE": "down",
    "DRAINING": "drain",
    "NO_MONITOR": "unchecked",
    "DEGRADED": "down",
}
"""Of a member, in the words of all drivers."""


@dataclasses.dataclass(frozen=True)
class Wanted:
    """One balancer in Octavia's words. ``listeners``: by port; ``members``: by host."""

    vip: str
    listeners: dict[int, dict[str, Any]]
    pool: dict[str, Any]
    monitor: dict[str, Any] | None
    members: dict[str, dict[str, Any]]


def wanted(desired: LoadBalancerDesired) -> Wanted:
    """What Octavia shall have."""
    (pool,) = desired.pools
    return Wanted(
        vip=desired.vip.address.partition("/")[0] if desired.vip else "",
        listeners={bind.port: _listener(desired) for bind in desired.binds},
        pool=_pool(pool, desired.mode),
        monitor=_monitor(pool.check, desired.mode),
        members={server.name: _member(server) for server in pool.servers},
    )


def _listener(desired: LoadBalancerDesired) -> dict[str, Any]:
    times = desired.timeouts
    tcp = {
        "timeout_client_data": _milliseconds(times.client),
        "timeout_member_connect": _milliseconds(times.connect),
        "timeout_member_data": _milliseconds(times.server),
    }
    return {
        "protocol": desired.mode.upper(),
        "connection_limit": desired.max_connections or -1,
        "allowed_cidrs": list(desired.allow) or None,
        "insert_headers": FORWARDED if _forwards(desired) else {},
        **({} if desired.mode is Mode.UDP else tcp),
    }


def _forwards(desired: LoadBalancerDesired) -> bool:
    return desired.mode is Mode.HTTP and desired.headers.forwarded


def _pool(pool: Pool, mode: Mode) -> dict[str, Any]:
    source = pool.persistence is Persistence.SOURCE
    return {
        "protocol": PROXY.get(pool.proxy, mode.upper()),
        "lb_algorithm": ALGORITHMS[pool.algorithm],
        "session_persistence": {"type": "SOURCE_IP"} if source else None,
    }


def _monitor(check: Check, mode: Mode) -> dict[str, Any] | None:
    if check.kind is Checking.NONE:
        return None
    common = {
        "delay": int(check.interval),
        "timeout": int(check.timeout),
        "max_retries": check.rise,
        "max_retries_down": check.fall,
    }
    if check.kind is Checking.TCP:
        return {"type": "UDP-CONNECT" if mode is Mode.UDP else "TCP", **common}
    codes = (str(low) if low == high else f"{low}-{high}" for low, high in check.statuses)
    named = {"domain_name": check.host, "http_version": 1.1} if check.host else {}
    http = {"http_method": check.method, "url_path": check.path, "expected_codes": next(codes)}
    return {"type": "HTTP", **common, **http, **named}


def _member(server: Server) -> dict[str, Any]:
    return {
        "name": server.name,
        "address": server.address,
        "protocol_port": server.port,
        "weight": 0 if server.drain else server.weight,
        "backup": server.backup,
    }


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def refused(path: str, spec: LoadBalancerSpec) -> Iterator[Problem]:
    """What Octavia cannot do, beside whole features."""
    for at, place in enumerate(spec.listen):
        if not isinstance(place, int):
            yield refusal(
                f"{path}.listen.{at}", "Octavia listens at its VIP alone", "write the port, and vip"
            )
    if spec.pool.via is not None and spec.pool.via.startswith("vpn:"):
        yield refusal(
            f"{path}.pool.via", "Octavia is in no VPN of the deployment's", "write underlay"
        )
    check = spec.check
    if check is None:
        return
    for key, seconds in (("interval", check.interval), ("timeout", check.timeout)):
        if seconds != int(seconds) or seconds < 1:
            yield refusal(f"{path}.check.{key}", "Octavia counts in whole seconds", "write 1s")
    for key, tries in (("rise", check.rise), ("fall", check.fall)):
        if tries > MOST_TRIES:
            yield refusal(f"{path}.check.{key}", f"Octavia counts to {MOST_TRIES}", "write less")
    if check.timeout > check.interval:
        yield refusal(
            f"{path}.check.timeout", "Octavia takes no time-out above the interval", "write less"
        )
    if len(check.status) > 1:
        yield refusal(f"{path}.check.status", "Octavia takes one range of statuses", "write one")
