# SPDX-License-Identifier: Apache-2.0
"""The desired state of one load balancer on one of its carriers: what compile() makes, and drivers
realise.

A balancer listens, picks a pool (by its routes, else the first), and of the pool's servers one.
Who is a server follows the rows; whether it answers, the driver finds out by checks.
"""

from __future__ import annotations

import dataclasses
import enum

from cnsmo.services.base import Desired

HEAVIEST = 256
"""The largest weight of a server; 0 gets no new connections."""


class Mode(enum.StrEnum):
    """What is balanced."""

    HTTP = "http"
    """Requests."""
    TCP = "tcp"
    """Connections."""
    UDP = "udp"
    """Flows of datagrams."""


class Algorithm(enum.StrEnum):
    """Which server is picked; weights count in all but ``first``."""

    ROUNDROBIN = "roundrobin"
    """Each in turn."""
    LEASTCONN = "leastconn"
    """The one with the fewest connections."""
    SOURCE = "source"
    """By the client's address."""
    RANDOM = "random"
    """By chance."""
    FIRST = "first"
    """The first, by name, that has room."""
    URI = "uri"
    """By the path that is asked for."""


class Checking(enum.StrEnum):
    """How it is found out whether a server is well."""

    NONE = "none"
    TCP = "tcp"
    HTTP = "http"


class Persistence(enum.StrEnum):
    """By what a client finds the same server again."""

    NONE = "none"
    SOURCE = "source"
    """By its address, as long as the server is there."""
    COOKIE = "cookie"
    """By a cookie that the balancer sets."""


@dataclasses.dataclass(frozen=True)
class Server:
    """One host of a pool. ``name``: the host's. ``address``: without a port; IPv4 or IPv6.

    ``weight``: 0 to HEAVIEST. ``backup``: only used while none of the others is well. ``drain``:
    by an operator's word it gets no new connections, and keeps those that it has.
    """

    name: str
    address: str
    port: int
    weight: int = 1
    backup: bool = False
    drain: bool = False


@dataclasses.dataclass(frozen=True)
class Check:
    """``interval`` and ``timeout``: seconds. ``rise``, ``fall``: so many good or bad checks in a
    row change a server's state. The rest is for HTTP; ``statuses``: first and last of each range.
    """

    kind: Checking = Checking.TCP
    interval: float = 2.0
    timeout: float = 1.0
    rise: int = 2
    fall: int = 3
    method: str = "GET"
    path: str = "/"
    host: str = ""
    statuses: tuple[tuple[int, int], ...] = ((200, 399),)


@dataclasses.dataclass(frozen=True)
class Pool:
    """Servers that do the same. ``cookie``: its name. ``proxy``: version of the PROXY protocol
    in which they are told the client's address: "", "v1" or "v2"."""

    name: str
    servers: tuple[Server, ...]
    algorithm: Algorithm = Algorithm.ROUNDROBIN
    check: Check = Check()
    persistence: Persistence = Persistence.NONE
    cookie: str = ""
    proxy: str = ""


@dataclasses.dataclass(frozen=True)
class Bind:
    """Where it listens. ``address``: "" is every address of the host, of both IP versions."""

    address: str
    port: int


@dataclasses.dataclass(frozen=True)
class Route:
    """Requests that go to another pool than the first; the first route that matches decides.

    ``hosts``: lower-case names without a port, ``*.name`` for all below it; empty: any. ``path``:
    its beginning; "": any.
    """

    pool: str
    hosts: tuple[str, ...] = ()
    path: str = ""


@dataclasses.dataclass(frozen=True)
class Tls:
    """``certificates``: absolute paths of PEM files on the carrier, each with its key; the first
    is for clients that name no host that one of them has. ``minimum``: "1.2" or "1.3".
    ``client_ca``: PEM file of the authority that clients' certificates must be from; "": none is
    asked for. ``redirects``: where plain requests are sent on to https."""

    certificates: tuple[str, ...]
    minimum: str = "1.2"
    client_ca: str = ""
    redirects: tuple[Bind, ...] = ()


@dataclasses.dataclass(frozen=True)
class Timeouts:
    """Seconds: to reach a server; of silence of a client, of a server; until a request is whole;
    of silence in a tunnel (websocket); between requests on a connection."""

    connect: float = 5.0
    client: float = 60.0
    server: float = 60.0
    request: float = 10.0
    tunnel: float = 3600.0
    keep_alive: float = 10.0


@dataclasses.dataclass(frozen=True)
class Headers:
    """What is added to requests, and to answers. ``forwarded``: X-Forwarded-For and -Proto, in
    place of what the client says of itself. The others: name and value."""

    forwarded: bool = True
    request: tuple[tuple[str, str], ...] = ()
    response: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(frozen=True)
class Vip:
    """An address that one of the carriers holds. ``address``: with its prefix length. ``source``
    and ``peers``: under which address this carrier and the others talk to each other; ``router``:
    VRRP's id, 1 to 255; ``priority``: 1 to 254, the highest that is well holds it."""

    address: str
    source: str
    peers: tuple[str, ...]
    router: int
    priority: int


@dataclasses.dataclass(frozen=True)
class LoadBalancerDesired(Desired):
    """One load balancer.

    ``pools``: the first is for what no route matches. ``max_connections``: of clients at once; 0:
    as many as the driver can. ``accept_proxy``: clients come through a proxy that speaks the PROXY
    protocol. ``allow``: networks of clients; empty: all. ``drain``: seconds for which a server that
    left keeps the connections that it has. ``distrusted``: hosts whose servers keep none.
    """

    mode: Mode
    binds: tuple[Bind, ...]
    pools: tuple[Pool, ...]
    routes: tuple[Route, ...] = ()
    tls: Tls | None = None
    timeouts: Timeouts = Timeouts()
    max_connections: int = 0
    accept_proxy: bool = False
    headers: Headers = Headers()
    allow: tuple[str, ...] = ()
    drain: float = 30.0
    distrusted: tuple[str, ...] = ()
    vip: Vip | None = None
