# SPDX-License-Identifier: Apache-2.0
"""What the operator writes for a load balancer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    model_validator,
)

from cnsmo.model.names import Label
from cnsmo.services.base import mistake
from cnsmo.services.loadbalancer.desired import HEAVIEST, Algorithm, Checking, Mode, Persistence
from cnsmo.services.loadbalancer.terms import (
    METHODS,
    CookieName,
    File,
    Files,
    HeaderName,
    HeaderValue,
    HostName,
    Listens,
    Port,
    RoutedHosts,
    RoutedPath,
    Statuses,
    TlsVersion,
    UrlPath,
    Vip,
)
from cnsmo.services.words import DriverName, Groups, Seconds, Source, Via, as_list

DEFAULT_POOL = "default"
"""Name of the pool of what no route matches."""
Labels = Annotated[tuple[Label, ...], BeforeValidator(as_list)]
Weight = Annotated[StrictInt, Field(ge=0, le=HEAVIEST)]
Duration = Annotated[Seconds, Field(ge=0.05, le=86400)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Pool(_Model):
    """Hosts that serve, and how they are reached."""

    group: Groups = Field((), description="Groups whose hosts serve; or hosts.")
    hosts: Labels = Field((), description="Hosts that serve, by name; or group.")
    port: Port = Field(description="Where they listen.")
    via: Via | None = Field(
        None,
        description="underlay, or the name of a VPN; left out: the first VPN that the carrier and "
        "the host are both in, else the underlay.",
    )
    weights: dict[Label, Weight] = Field(
        default_factory=dict,
        description="By host or group, 0 to 256: how much of the whole they get; others have 1. "
        "A host's own goes before its group's.",
    )
    backup: Labels = Field(
        (), description="Hosts or groups of these that serve only while no other is well."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Pool:
        if bool(self.group) == bool(self.hosts):
            raise mistake("group", "a pool has a group or hosts: one of the two")
        return self


class Check(_Model):
    """How it is found out whether a server is well."""

    http: UrlPath | None = Field(None, description="Path to ask for; left out: no HTTP.")
    tcp: StrictBool = Field(True, description="Whether at least a connection is tried.")
    method: Literal[METHODS] = Field("GET", description="Of the request.")  # type: ignore[valid-type]
    status: Statuses = Field(
        ("200-399",), min_length=1, description="Statuses that are good: 200, or 200-399."
    )
    host: HostName | None = Field(None, description="Host header of the request.")
    interval: Duration = Field(2.0, description="Seconds between two checks; 200ms, 2s.")
    timeout: Duration = Field(
        1.0,
        description="Seconds until one counts as failed; with haproxy from when it is connected: "
        "that may take interval, at most timeouts.connect.",
    )
    rise: StrictInt = Field(2, ge=1, le=100, description="Good checks until a server is up.")
    fall: StrictInt = Field(3, ge=1, le=100, description="Bad checks until it is down.")

    @property
    def kind(self) -> Checking:
        """What is asked."""
        if self.http is not None:
            return Checking.HTTP
        return Checking.TCP if self.tcp else Checking.NONE


class Tls(_Model):
    """How clients are talked to in secret."""

    certificates: Files = Field(
        min_length=1,
        description="PEM files on the carrier, each with its chain and its key; by SNI, the first "
        "for all other names. They are read again when they change.",
    )
    minimum: TlsVersion = Field("1.2", description="The oldest version of TLS.")
    client_ca: File | None = Field(
        None, description="PEM file of the authority that clients' certificates must be from."
    )
    redirect: Listens = Field((), description="Ports at which plain requests are sent to https.")


class Timeouts(_Model):
    """Seconds, or 200ms, 2s, 5m."""

    connect: Duration = Field(5.0, description="Until a server answers.")
    client: Duration = Field(60.0, description="Of silence of a client.")
    server: Duration = Field(60.0, description="Of silence of a server.")
    request: Duration = Field(10.0, description="Until a request's head is there.")
    tunnel: Duration = Field(
        3600.0,
        description="Of silence of both, as in a websocket; in mode: tcp, in place of client and "
        "server.",
    )
    keep_alive: Duration = Field(10.0, description="Between two requests of a connection.")


class ProxyProtocol(_Model):
    """HAProxy's PROXY protocol, which tells a client's address."""

    accept: StrictBool = Field(False, description="Clients come through a proxy that speaks it.")
    send: Literal["v1", "v2"] | None = Field(None, description="Tell the servers in it.")


class Headers(_Model):
    """What is set in requests and answers."""

    forwarded: StrictBool = Field(
        True, description="X-Forwarded-For and -Proto, in place of what the client says."
    )
    request: dict[HeaderName, HeaderValue] = Field(
        default_factory=dict, max_length=50, description="Set in requests."
    )
    response: dict[HeaderName, HeaderValue] = Field(
        default_factory=dict, max_length=50, description="Set in answers."
    )


class Route(_Model):
    """Requests that go to another pool; the first route that matches decides."""

    name: Label | None = Field(None, description="The pool's name; left out: the route's number.")
    host: RoutedHosts = Field(
        (), description="Names that are asked for; *.example.org is all below."
    )
    path: RoutedPath | None = Field(None, description="How the path begins.")
    pool: Pool = Field(description="Who serves it.")

    @model_validator(mode="after")
    def _consistent(self) -> Route:
        if not self.host and self.path is None:
            raise mistake("host", "a route needs a host, or a path, or both")
        if self.name == DEFAULT_POOL:
            raise mistake("name", f"{DEFAULT_POOL} is what no route matches")
        if self.name and self.name.isdigit():
            raise mistake("name", f"{self.name} cannot be a name: it looks like a number")
        return self


def _check(value: Any) -> Any:
    """``tcp`` and ``none`` are short for checks without HTTP."""
    if not isinstance(value, str):
        return value
    short: dict[str, dict[str, Any]] = {"tcp": {}, "none": {"tcp": False}}
    if value not in short:
        raise ValueError(f"{ascii(value)[:80]} is no check: write tcp, none, or {{http: /path}}")
    return short[value]


class LoadBalancerSpec(_Model):
    """One load balancer, on every host of some groups."""

    on: Groups = Field(min_length=1, description="Groups whose hosts carry it.")
    listen: Listens = Field(
        min_length=1, max_length=50, description="Ports, or address:port, of every carrier."
    )
    mode: Mode = Field(Mode.HTTP, description="http, tcp or udp.")
    pool: Pool = Field(description="Who serves.")
    algorithm: Algorithm = Field(Algorithm.ROUNDROBIN, description="Which of them is picked.")
    check: Annotated[Check | None, BeforeValidator(_check)] = Field(
        None, description="tcp, none, or {http: /path}; left out: tcp, and none for udp."
    )
    persistence: Persistence = Field(
        Persistence.NONE, description="How a client finds the same server again."
    )
    cookie: CookieName = Field("CNSMO", description="Name of the cookie of persistence: cookie.")
    tls: Tls | None = Field(None, description="All of listen in TLS.")
    timeouts: Timeouts = Field(Timeouts(), description="How long things may take.")
    max_connections: StrictInt | None = Field(
        None, ge=1, le=1_000_000, description="Of clients at once; more wait."
    )
    proxy_protocol: ProxyProtocol = Field(ProxyProtocol(), description="PROXY, in and out.")
    drain: Annotated[Seconds, Field(ge=0, le=86400)] = Field(
        30.0, description="Seconds for which a server that leaves keeps its connections."
    )
    headers: Headers = Field(Headers(), description="Set in requests, and in answers.")
    routes: Annotated[tuple[Route, ...], BeforeValidator(as_list)] = Field(
        (), max_length=500, description="By host and path to other pools."
    )
    vip: Vip | None = Field(
        None, description="An address with its length, as 10.0.0.100/24, that one carrier holds."
    )
    allow: Annotated[tuple[Source, ...], BeforeValidator(as_list)] = Field(
        (), max_length=10_000, description="Networks of clients; left out: everybody."
    )
    driver: DriverName = Field("haproxy", description="Which driver realises it.")

    @property
    def checked(self) -> Check:
        """The check, where one was written or not."""
        return self.check or Check(tcp=self.mode is not Mode.UDP)

    @property
    def pools(self) -> dict[str, Pool]:
        """All pools by name, the default first."""
        named = {route.name or str(at): route.pool for at, route in enumerate(self.routes, 1)}
        return {DEFAULT_POOL: self.pool, **named}

    @model_validator(mode="after")
    def _consistent(self) -> LoadBalancerSpec:
        _check_http(self)
        _check_places(self)
        names = [route.name for route in self.routes if route.name]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise mistake("routes", f"two routes are called {twice}")
        if self.proxy_protocol.send and self.mode is Mode.UDP:
            raise mistake("proxy_protocol", "the PROXY protocol is TCP's")
        if self.tls and self.mode is Mode.UDP:
            raise mistake("tls", "is for http and tcp")
        return self


def _check_http(spec: LoadBalancerSpec) -> None:
    """What only makes sense of requests."""
    if spec.mode is Mode.HTTP:
        return
    asked = {
        "routes": bool(spec.routes),
        "headers": spec.headers != Headers(),
        "algorithm": spec.algorithm is Algorithm.URI,
        "persistence": spec.persistence is Persistence.COOKIE,
        "tls": bool(spec.tls and spec.tls.redirect),
    }
    for key, used in asked.items():
        if used:
            what = {"algorithm": "uri", "persistence": "cookie", "tls": "redirect"}.get(key, key)
            raise mistake(key, f"{what} needs mode: http")


def _check_places(spec: LoadBalancerSpec) -> None:
    places = [*spec.listen, *(spec.tls.redirect if spec.tls else ())]
    if twice := next((place for place in places if places.count(place) > 1), None):
        raise mistake("listen", f"{twice} is said twice")
    for place in places:
        port = str(place).rpartition(":")[2]
        if str(place) != port and int(port) in places:
            raise mistake("listen", f"{place} is among all addresses of {port}", "leave one out")
        if spec.vip and str(place).startswith(spec.vip.partition("/")[0] + ":"):
            raise mistake("listen", "the vip is not always here", f"write {port}: all addresses")
