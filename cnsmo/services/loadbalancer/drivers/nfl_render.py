# SPDX-License-Identifier: Apache-2.0
"""From the desired state to what is wanted of the table: the last door, where each value is looked
at once more, so that none can add a line; pure."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import ipaddress
import re
from collections.abc import Container, Iterable

from cnsmo.model.errors import DriverError
from cnsmo.services.kit import nft_values as values
from cnsmo.services.loadbalancer.desired import (
    HEAVIEST,
    Algorithm,
    Bind,
    Check,
    Checking,
    LoadBalancerDesired,
    Mode,
    Persistence,
    Pool,
    Server,
    Timeouts,
)
from cnsmo.services.loadbalancer.drivers.nfl_wanted import Inspection, Target, Wanted

TABLE = "inet cnsmo-lb-"
PROTOCOLS = {Mode.TCP: "tcp", Mode.UDP: "udp"}
ALGORITHMS = {
    Algorithm.ROUNDROBIN: "roundrobin",
    Algorithm.RANDOM: "random",
    Algorithm.SOURCE: "source",
}
SECONDS = (0.01, 86400.0)
LEAST_IDENT = 1 << 16
"""A smaller number could be a priority that somebody else gave a packet."""
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_METHOD = re.compile(r"[A-Z]{1,20}")
_PATH = re.compile(r"/[!-~]{0,1000}")
_HOST = re.compile(r"[A-Za-z0-9.:\[\]_-]{0,260}")


def render(
    unit: str,
    label: str,
    desired: LoadBalancerDesired,
    earlier: Wanted | None,
    gone: Container[str],
    boot_id: str,
) -> Wanted:
    """What is wanted now. earlier: what was wanted until now, whose servers may have left; gone:
    keys of those whose time to leave is over; boot_id: see kit.boot.

    :raises DriverError: when the driver cannot do it, or a value cannot be rendered.
    """
    if lacking := beyond(desired):
        raise DriverError(f"the driver nftables cannot do {', '.join(lacking)}")
    pool = desired.pools[0]
    servers = _servers(pool)
    left = _left(servers, earlier, gone, boot_id) if desired.drain else []
    binds = sorted({_bind(it) for it in desired.binds}, key=lambda it: (not it[0], it))
    for target in servers:
        if (at := (target.address, target.port)) in binds:
            raise DriverError(f"{place(at)} is where it listens and one of its servers")
    return Wanted(
        table=TABLE + values.matching(_NAME, "unit", unit),
        comment=values.label_comment(label),
        protocol=PROTOCOLS[desired.mode],
        binds=tuple(binds),
        allow=_allow(desired.allow),
        algorithm=ALGORITHMS[pool.algorithm],
        sticky=pool.persistence is Persistence.SOURCE,
        check=_inspection(pool.check),
        targets=_numbered([*servers, *left]),
        drain=_seconds("drain", desired.drain, 0.0),
        distrusted=desired.distrusted,
        boot_id=boot_id,
    )


def beyond(desired: LoadBalancerDesired) -> list[str]:
    """What is asked for that this driver cannot do; the plan has refused it already."""
    pool = desired.pools[0] if desired.pools else Pool("", ())
    asked = {
        f"mode: {desired.mode}": desired.mode not in PROTOCOLS,
        f"algorithm: {pool.algorithm}": pool.algorithm not in ALGORITHMS,
        f"persistence: {pool.persistence}": pool.persistence
        not in (Persistence.NONE, Persistence.SOURCE),
        "other than one pool": len(desired.pools) != 1,
        "routes": bool(desired.routes),
        "tls": desired.tls is not None,
        "timeouts": desired.timeouts != Timeouts(),
        "max_connections": desired.max_connections != 0,
        "proxy_protocol": desired.accept_proxy or bool(pool.proxy),
        "vip": desired.vip is not None,
        "no address to listen at": not desired.binds,
    }
    return [what for what, wanted in asked.items() if wanted]


def place(bind: tuple[str, int]) -> str:
    """An address and port for people."""
    address, port = bind
    return f"[{address}]:{port}" if ":" in address else f"{address or '*'}:{port}"


def _servers(pool: Pool) -> list[Target]:
    found: dict[str, Target] = {}
    for server in pool.servers:
        target = _target(server)
        if target.key in found:
            raise DriverError(f"two servers are at {place((target.address, target.port))}")
        found[target.key] = target
    return list(found.values())


def _target(server: Server) -> Target:
    version, address = _address(server.address)
    return Target(
        name=values.matching(_NAME, "server", server.name),
        version=version,
        address=address,
        port=int(values.number("port", server.port, 1, 65535)),
        ident=0,
        weight=int(values.number("weight", server.weight, 0, HEAVIEST)),
        backup=server.backup is True,
        drain=server.drain is True,
    )


def _left(
    servers: Iterable[Target], earlier: Wanted | None, gone: Container[str], boot_id: str
) -> list[Target]:
    """Servers that were wanted, and still have their time to leave. Who was leaving when the host
    went down has no flows any more."""
    here = {it.key for it in servers}
    if earlier is None:
        return []
    over = gone if earlier.boot_id == boot_id else {it.key for it in earlier.targets}
    left = (it for it in earlier.targets if it.key not in here)
    return [
        dataclasses.replace(it, leaving=True) for it in left if not (it.leaving and it.key in over)
    ]


def _numbered(targets: Iterable[Target]) -> tuple[Target, ...]:
    """With numbers of their own, which stay the same whoever else is there."""
    taken: dict[int, str] = {}
    found = []
    for target in targets:
        ident = _ident(target.key)
        while ident < LEAST_IDENT or taken.get(ident, target.key) != target.key:
            ident = (ident + LEAST_IDENT) & 0xFFFFFFFF
        taken[ident] = target.key
        found.append(dataclasses.replace(target, ident=ident))
    return tuple(found)


@functools.lru_cache(maxsize=16384)
def _ident(key: str) -> int:
    return int(hashlib.sha256(key.encode()).hexdigest()[:8], 16)


def _bind(bind: Bind) -> tuple[str, int]:
    port = int(values.number("port", bind.port, 1, 65535))
    return (_address(bind.address)[1] if bind.address != "" else "", port)


def _address(text: object) -> tuple[int, str]:
    """IP version and one form of an address that can be reached from outside."""
    version = 6 if ":" in str(text) else 4
    form = values.span(text if isinstance(text, str) else "", version)[2]
    found = ipaddress.ip_address(form) if "/" not in form else None
    mapped = isinstance(found, ipaddress.IPv6Address) and (
        found.ipv4_mapped is not None or found.is_link_local
    )
    if found is None or mapped or found.is_multicast or found.is_unspecified or found.is_loopback:
        raise values.wrong("address", text)
    return version, form


def _allow(networks: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    texts = list(networks)
    if not texts:
        return None
    sixes = [it for it in texts if ":" in str(it)]
    fours = [it for it in texts if ":" not in str(it)]
    return values.elements(fours, 4), values.elements(sixes, 6)


def _inspection(check: Check) -> Inspection:
    if check.kind not in tuple(Checking):
        raise values.wrong("check", check.kind)
    return Inspection(
        kind=str(check.kind),
        interval=_seconds("interval", check.interval),
        timeout=_seconds("timeout", check.timeout),
        rise=int(values.number("rise", check.rise, 1, 1000)),
        fall=int(values.number("fall", check.fall, 1, 1000)),
        method=values.matching(_METHOD, "method", check.method),
        path=values.matching(_PATH, "path", check.path),
        host=values.matching(_HOST, "host", check.host),
        statuses=tuple((_status(low), _status(high)) for low, high in check.statuses),
    )


def _status(value: object) -> int:
    return int(values.number("status", value, 100, 999))


def _seconds(what: str, value: object, least: float = SECONDS[0]) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise values.wrong(what, value)
    if not least <= value <= SECONDS[1]:
        raise values.wrong(what, value)
    return float(value)
