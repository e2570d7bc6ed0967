# SPDX-License-Identifier: Apache-2.0
"""What a driver of load balancers may be able to do; pure.

A driver says which of these it can; what a document asks for beyond them is refused at plan, by
name, and doc/loadbalancer.md has the table that is made from the same words.
"""

from __future__ import annotations

import enum
import ipaddress

from cnsmo.services.loadbalancer.desired import Checking, Persistence
from cnsmo.services.loadbalancer.spec import Headers, LoadBalancerSpec, Timeouts
from cnsmo.services.loadbalancer.terms import bind


class Feature(enum.StrEnum):
    """Something that a document can ask for; the value is its words."""

    HTTP = "mode: http"
    TCP = "mode: tcp"
    UDP = "mode: udp"
    LOOPBACK = "listen: an address of the carrier's own loopback"
    ROUNDROBIN = "algorithm: roundrobin"
    LEASTCONN = "algorithm: leastconn"
    SOURCE = "algorithm: source"
    RANDOM = "algorithm: random"
    FIRST = "algorithm: first"
    URI = "algorithm: uri"
    WEIGHTS = "weights"
    BACKUP = "backup servers"
    CHECK_TCP = "check: tcp"
    CHECK_HTTP = "check: http"
    PERSIST_SOURCE = "persistence: source"
    PERSIST_COOKIE = "persistence: cookie"
    TLS = "tls"
    CLIENT_CA = "tls: client_ca"
    REDIRECT = "tls: redirect"
    TIMEOUTS = "timeouts"
    MAX_CONNECTIONS = "max_connections"
    PROXY_ACCEPT = "proxy_protocol: accept"
    PROXY_SEND = "proxy_protocol: send"
    HEADERS = "headers"
    ROUTES = "routes"
    ALLOW = "allow"
    VIP = "vip"


def asked(spec: LoadBalancerSpec) -> dict[Feature, str]:
    """What a document asks for, each with the key that does."""
    found = {
        Feature(f"mode: {spec.mode}"): "mode",
        Feature(f"algorithm: {spec.algorithm}"): "algorithm",
    }
    checks = {Checking.TCP: Feature.CHECK_TCP, Checking.HTTP: Feature.CHECK_HTTP}
    if spec.checked.kind in checks:
        found[checks[spec.checked.kind]] = "check"
    if spec.persistence is not Persistence.NONE:
        found[Feature(f"persistence: {spec.persistence}")] = "persistence"
    tls = spec.tls
    more = {
        Feature.LOOPBACK: ("listen", any(map(_is_loopback, spec.listen))),
        Feature.WEIGHTS: ("pool.weights", any(pool.weights for pool in spec.pools.values())),
        Feature.BACKUP: ("pool.backup", any(pool.backup for pool in spec.pools.values())),
        Feature.TLS: ("tls", tls is not None),
        Feature.CLIENT_CA: ("tls.client_ca", bool(tls and tls.client_ca)),
        Feature.REDIRECT: ("tls.redirect", bool(tls and tls.redirect)),
        Feature.TIMEOUTS: ("timeouts", spec.timeouts != Timeouts()),
        Feature.MAX_CONNECTIONS: ("max_connections", spec.max_connections is not None),
        Feature.PROXY_ACCEPT: ("proxy_protocol.accept", spec.proxy_protocol.accept),
        Feature.PROXY_SEND: ("proxy_protocol.send", spec.proxy_protocol.send is not None),
        Feature.HEADERS: ("headers", spec.headers != Headers()),
        Feature.ROUTES: ("routes", bool(spec.routes)),
        Feature.ALLOW: ("allow", bool(spec.allow)),
        Feature.VIP: ("vip", spec.vip is not None),
    }
    return found | {feature: key for feature, (key, used) in more.items() if used}


def _is_loopback(listen: int | str) -> bool:
    address = bind(listen).address
    return bool(address) and ipaddress.ip_address(address).is_loopback
