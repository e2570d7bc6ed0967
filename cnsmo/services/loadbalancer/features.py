# SPDX-License-Identifier: Apache-2.0
"""What a driver of load balancers may be able to do; pure.

A driver says which of these it can; what a document asks for beyond them is refused at plan, by
name, and doc/loadbalancer.md has the table that is made from the same words.
"""

from __future__ import annotations

import enum


class Feature(enum.StrEnum):
    """Something that a document can ask for; the value is its words."""

    HTTP = "mode: http"
    TCP = "mode: tcp"
    UDP = "mode: udp"
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
