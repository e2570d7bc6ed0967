# SPDX-License-Identifier: Apache-2.0
"""From the desired state to haproxy.cfg (HAProxy 2.6 and later); pure.

The structure is everything but the servers, which come and go by the runtime API. Its fingerprint
stands in the file as the instance's description, and so can be asked of the running process.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Sequence

from cnsmo.model.errors import DriverError
from cnsmo.services.loadbalancer.desired import (
    Algorithm,
    Checking,
    LoadBalancerDesired,
    Mode,
    Persistence,
    Pool,
)
from cnsmo.services.loadbalancer.drivers import hap_text as text
from cnsmo.services.loadbalancer.drivers.hap_front import front_of
from cnsmo.services.loadbalancer.drivers.hap_host import Host
from cnsmo.services.loadbalancer.drivers.hap_server import HapServer, common_words, servers_of

PEERS = "own"
BALANCE = {
    Algorithm.ROUNDROBIN: ("balance roundrobin",),
    Algorithm.LEASTCONN: ("balance leastconn",),
    Algorithm.SOURCE: ("balance source", "hash-type consistent"),
    Algorithm.RANDOM: ("balance random",),
    Algorithm.FIRST: ("balance first",),
    Algorithm.URI: ("balance uri", "hash-type consistent"),
}
REMEMBERED = "size 500k expire 1h"
"""How many clients' servers are remembered, and for how long; some 100 bytes each."""
OLD_WORKERS = 20
"""Processes of earlier configurations, which end when their last connection does."""
MOST_FILES = 1 << 20
"""Where nothing is asked for: HAProxy makes room for all files that it may open, and containers
often set no limit to that."""
MOST_THREADS = 16
"""A larger machine may have several memory nodes, of which HAProxy picks one by itself."""
FIRST_CHECKS = "200ms"
"""Within which time the first checks of new servers are spread."""


@dataclasses.dataclass(frozen=True)
class Backend:
    """A pool. ``lines``: its structure; ``common``: what its servers have in common."""

    name: str
    lines: tuple[str, ...]
    common: str
    servers: tuple[HapServer, ...]


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole configuration. ``head``: what comes before the pools."""

    head: str
    backends: tuple[Backend, ...]
    fingerprint: str

    @property
    def servers(self) -> dict[tuple[str, str], HapServer]:
        """All servers that are wanted, by pool and name."""
        return {server.key: server for it in self.backends for server in it.servers}

    @property
    def common(self) -> dict[str, str]:
        """What the servers of each pool have in common."""
        return {backend.name: backend.common for backend in self.backends}

    def text(self, leaving: Iterable[HapServer] = ()) -> str:
        """The file, with servers that are on their way out."""
        others: dict[str, list[HapServer]] = {}
        for server in leaving:
            others.setdefault(server.pool, []).append(server)
        sections = [
            _section(
                f"backend {it.name}",
                [
                    *it.lines,
                    *(server.line for server in (*it.servers, *others.get(it.name, ()))),
                ],
            )
            for it in self.backends
        ]
        return self.head + "".join(sections)


def render(desired: LoadBalancerDesired, host: Host) -> Config:
    """The configuration.

    :raises DriverError: when a value cannot be rendered, or HAProxy cannot do what is asked for.
    """
    if text.choice(Mode, "mode", desired.mode) is Mode.UDP:
        raise text.wrong("mode", desired.mode)
    names = [text.pool(pool.name) for pool in desired.pools]
    if not names or len(set(names)) < len(names):
        raise DriverError("a load balancer needs pools, each with a name of its own")
    body = _section("defaults", _defaults(desired)) + _peers(desired, host)
    body += "".join(_section(name, lines) for name, lines in front_of(desired, host))
    backends = tuple(_backend(desired, pool, host) for pool in desired.pools)
    bare = "".join(_section(f"backend {it.name}", it.lines) for it in backends)
    start = [*_global(desired, host)]
    fingerprint = hashlib.sha256((_section("global", start) + body + bare).encode()).hexdigest()[
        :32
    ]
    start.insert(0, f'description "cnsmo {text.label(host.label)} {fingerprint}"')
    return Config(_section("global", start) + body, backends, fingerprint)


def _section(name: str, lines: Iterable[str]) -> str:
    return f"{name}\n" + "".join(f"  {line}\n" for line in lines) + "\n"


def _global(desired: LoadBalancerDesired, host: Host) -> Iterator[str]:
    yield "chroot ."
    if host.user:
        yield f"user {text.token('user', host.user)}"
        yield f"group {text.token('group', host.group)}"
    yield from _threads(host.processors)
    yield "stats socket unix@../stats.sock mode 600 level admin"
    yield "server-state-file ../servers.state"
    yield f"max-spread-checks {FIRST_CHECKS}"
    yield "spread-checks 5"
    yield f"mworker-max-reloads {OLD_WORKERS}"
    if desired.max_connections:
        yield f"maxconn {text.number('max_connections', desired.max_connections, 1, 10**7)}"
    yield f"fd-hard-limit {MOST_FILES}"
    yield "no strict-limits"  # fewer connections than asked for are better than none
    if desired.tls:
        yield "ssl-load-extra-files none"
        yield f"ssl-default-bind-ciphers {CIPHERS}"
    if _remembers(desired):
        yield "localpeer cnsmo"


def _threads(processors: Sequence[int]) -> Iterator[str]:
    """Each thread stays on a processor of its own, whose caches then have what it needs."""
    count = len(processors)
    if 1 < count <= MOST_THREADS:
        numbers = " ".join(text.number("processor", it, 0, 1 << 16) for it in processors)
        yield f"nbthread {count}"
        yield f"cpu-map auto:1/1-{count} {numbers}"


CIPHERS = ":".join(
    f"{exchange}-{cipher}"
    for cipher in (
        "AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305",
    )
    for exchange in ("ECDHE-ECDSA", "ECDHE-RSA")
)  # fmt: skip
"""For TLS 1.2: forward secrecy and authenticated encryption only (RFC 9325, 4.2)."""


def _defaults(desired: LoadBalancerDesired) -> Iterator[str]:
    http = desired.mode == Mode.HTTP
    yield f"mode {'http' if http else 'tcp'}"
    it = desired.timeouts
    times = {"connect": it.connect, "client": it.client, "server": it.server, "tunnel": it.tunnel}
    if http:
        times |= {"http-request": it.request, "http-keep-alive": it.keep_alive}
    for name, seconds in times.items():
        yield f"timeout {name} {text.milliseconds(f'timeout {name}', seconds)}"
    yield "load-server-state-from-file global"
    yield "retries 3"
    yield "option redispatch 1"
    if http:
        yield "retry-on conn-failure empty-response"


def _peers(desired: LoadBalancerDesired, host: Host) -> str:
    """By which a process hands over to the next one what it remembers of clients."""
    if not _remembers(desired):
        return ""
    owner = f" user {text.token('user', host.user)}" if host.user else ""
    return _section(f"peers {PEERS}", [f"bind unix@peers.sock{owner} mode 600", "server cnsmo"])


def _remembers(desired: LoadBalancerDesired) -> bool:
    return any(pool.persistence == Persistence.SOURCE for pool in desired.pools)


def _backend(desired: LoadBalancerDesired, pool: Pool, host: Host) -> Backend:
    name, http = text.pool(pool.name), desired.mode == Mode.HTTP
    algorithm = text.choice(Algorithm, "algorithm", pool.algorithm)
    if not http and algorithm is Algorithm.URI:
        raise DriverError(f"the pool {name} cannot look at paths: mode: tcp has none")
    lines = [*BALANCE[algorithm], "option allbackups"]
    lines += [*_persistence(desired, pool, host), *_check(pool)]
    common = common_words(pool)
    lines += [f"default-server {common}"] if common else []
    return Backend(name, tuple(lines), common, servers_of(pool))


def _persistence(desired: LoadBalancerDesired, pool: Pool, host: Host) -> Iterator[str]:
    persistence = text.choice(Persistence, "persistence", pool.persistence)
    if persistence is Persistence.SOURCE:
        yield f"stick-table type ipv6 {REMEMBERED} peers {PEERS}"
        yield "stick on src"
    elif persistence is Persistence.COOKIE:
        if desired.mode != Mode.HTTP:
            raise DriverError(f"the pool {pool.name} cannot set a cookie: mode: tcp has none")
        secure = " secure" if desired.tls else ""
        yield (
            f"cookie {text.cookie(pool.cookie)} insert indirect nocache httponly{secure} "
            "attr SameSite=Lax dynamic"
        )
        yield f"dynamic-cookie-key {text.secret(host.secret)}"


def _check(pool: Pool) -> Iterator[str]:
    check = pool.check
    kind = text.choice(Checking, "check", check.kind)
    if kind is Checking.NONE:
        return
    yield f"timeout check {text.milliseconds('check timeout', check.timeout)}"
    if kind is Checking.TCP:
        return
    ranges = [
        tuple(text.number("status", it, 100, 599) for it in (first, last))
        for first, last in check.statuses
    ]
    if not ranges or any(first > last for first, last in ranges):
        raise text.wrong("statuses", check.statuses)
    yield "option httpchk"
    yield (
        f"http-check send meth {text.method(check.method)} uri {text.target(check.path)} "
        f"ver HTTP/1.1 hdr Host {text.host(check.host or 'localhost')}"
    )
    yield f"http-check expect status {','.join(f'{first}-{last}' for first, last in ranges)}"
