# SPDX-License-Identifier: Apache-2.0
"""The client's side of haproxy.cfg: where it listens, whom it lets in, to which pool; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cnsmo.model.errors import DriverError
from cnsmo.services.loadbalancer.desired import Bind, LoadBalancerDesired, Mode, Route, Tls
from cnsmo.services.loadbalancer.drivers import hap_text as text
from cnsmo.services.loadbalancer.drivers.hap_host import Host

FRONT, REDIRECT = "front", "redirect"
WORDS = 40
"""So many values at most on one line; HAProxy takes 64 words."""
IDEMPOTENT = "GET HEAD OPTIONS PUT DELETE TRACE"
"""What may be asked twice (RFC 9110, 9.2.2)."""
TLS = {"1.2": "TLSv1.2", "1.3": "TLSv1.3"}
HTTPS = 443


def front_of(desired: LoadBalancerDesired, host: Host) -> Iterator[tuple[str, list[str]]]:
    """The frontends: their names and their lines, one for each place where it listens."""
    if not desired.binds:
        raise DriverError("a load balancer has to listen somewhere")
    http = desired.mode == Mode.HTTP
    if not http and (desired.routes or desired.headers.request or desired.headers.response):
        raise DriverError("routes and headers need mode: http")
    options = _bind_options(desired, host)
    shared = [*_admission(desired)]
    if http:
        shared += [*_requests(desired), *_headers(desired), *_routes(desired)]
    shared.append(f"default_backend {text.pool(desired.pools[0].name)}")
    for index, bind in enumerate(desired.binds):
        yield f"frontend {FRONT}-{index}", [*_binds(bind, options, host), *shared]
    redirects = desired.tls.redirects if desired.tls else ()
    if redirects and not http:
        raise DriverError("a redirect to https needs mode: http")
    for index, bind in enumerate(redirects):
        options = " accept-proxy" if desired.accept_proxy else ""
        lines = [*_binds(bind, options, host), *_admission(desired), *_redirect(desired)]
        yield f"frontend {REDIRECT}-{index}", lines


def sockets_of(desired: LoadBalancerDesired, host: Host) -> list[tuple[str, str]]:
    """Addresses and ports of all sockets."""
    redirects = desired.tls.redirects if desired.tls else ()
    return [it for bind in (*desired.binds, *redirects) for it in places(bind, host)]


def places(bind: Bind, host: Host) -> list[tuple[str, str]]:
    """Addresses and ports of the sockets of one place to listen."""
    port = text.port(bind.port)
    if bind.address:
        return [(text.bracketed(bind.address), port)]
    return [("0.0.0.0", port), *([("[::]", port)] if host.ipv6 else [])]  # nosec B104: as asked for


def _binds(bind: Bind, options: str, host: Host) -> Iterator[str]:
    """Transparent: an address may come later than HAProxy does, a VPN's or a VIP."""
    for address, port in places(bind, host):
        how = " transparent" if bind.address else " v6only" if address == "[::]" else ""
        yield f"bind {address}:{port}{how}{options}"


def _bind_options(desired: LoadBalancerDesired, host: Host) -> str:
    words = ["accept-proxy"] if desired.accept_proxy else []
    if desired.tls:
        words += _tls(desired.tls, desired.mode, host)
    return "".join(f" {word}" for word in words)


def _tls(tls: Tls, mode: Mode, host: Host) -> list[str]:
    material = host.material
    if material is None or tls.minimum not in tuple(TLS):
        raise text.wrong("minimum version of TLS", tls.minimum)
    words = ["ssl", f"crt-list {material.certificates}", f"ssl-min-ver {TLS[tls.minimum]}"]
    words += ["alpn h2,http/1.1"] if mode == Mode.HTTP else []
    if tls.client_ca:
        if not material.authority:
            raise DriverError("the authority of clients' certificates is not there")
        words += [f"ca-file {material.authority}", "verify required"]
    return words


def _admission(desired: LoadBalancerDesired) -> Iterator[str]:
    """Who is not allowed is turned away as early as the client's address is known."""
    if not desired.allow:
        return
    yield from _acl("allowed", "src", [text.network(it) for it in desired.allow])
    when = "session" if desired.accept_proxy else "connection"
    yield f"tcp-request {when} reject if !allowed"


def _requests(desired: LoadBalancerDesired) -> Iterator[str]:
    """Idle connections are closed with an answer: a client may be about to ask on one."""
    yield "option idle-close-on-response"
    yield f"http-request disable-l7-retry unless {{ method {IDEMPOTENT} }}"


def _headers(desired: LoadBalancerDesired) -> Iterator[str]:
    headers = desired.headers
    if headers.forwarded:
        yield "http-request set-header X-Forwarded-For %[src]"
        yield "http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]"
    for kind, pairs in (("request", headers.request), ("response", headers.response)):
        for name, value in pairs:
            words = f"{text.header(name)} {text.value_of_header(value)}"
            yield f"http-{kind} set-header {words}"


def _routes(desired: LoadBalancerDesired) -> Iterator[str]:
    names = {text.pool(pool.name) for pool in desired.pools}
    for index, route in enumerate(desired.routes):
        if text.pool(route.pool) not in names:
            raise DriverError(f"a route leads to {ascii(route.pool)}, which is no pool")
        yield from _route(index, route)


def _route(index: int, route: Route) -> Iterator[str]:
    conditions = []
    if route.hosts:
        conditions.append(f"host-{index}")
        yield from _named(conditions[-1], route.hosts)
    if route.path:
        conditions.append(f"path-{index}")
        yield from _acl(conditions[-1], "path -m beg", [text.path(route.path)])
    when = f" if {' '.join(conditions)}" if conditions else ""
    yield f"use_backend {text.pool(route.pool)}{when}"


def _named(name: str, hosts: Sequence[str]) -> Iterator[str]:
    """Which host is asked for."""
    found = [text.asked(it) for it in hosts]
    for how in ("str", "end"):
        names = [it for match, it in found if match == how]
        yield from _acl(name, f"req.hdr(host),host_only,lower -m {how}", names)


def _acl(name: str, what: str, values: Sequence[str]) -> Iterator[str]:
    """Lines of one name count as one."""
    for start in range(0, len(values), WORDS):
        yield f"acl {name} {what} -- {' '.join(values[start : start + WORDS])}"


def _redirect(desired: LoadBalancerDesired) -> Iterator[str]:
    """To the first place where it listens; 308 keeps the method (RFC 9110, 15.4.9)."""
    port = desired.binds[0].port
    suffix = "" if port == HTTPS else f":{text.port(port)}"
    name = "%[req.hdr(host),regsub(:[0-9]+$,)]"
    yield f"http-request redirect code 308 location https://{name}{suffix}%[pathq]"
