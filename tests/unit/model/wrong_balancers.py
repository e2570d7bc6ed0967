# SPDX-License-Identifier: Apache-2.0
"""Load balancers that are wrong, and what a person is told about each; see wrong_documents."""

POOL = "pool: {group: db, port: 80}"


def balancer(spec: str) -> str:
    """A document with one load balancer on the hosts of the group web."""
    return f"deployment: shop\nloadbalancer:\n  www: {{on: web, listen: 80, {spec}}}\n"


def listening(listen: str) -> str:
    return f"deployment: shop\nloadbalancer:\n  www: {{on: web, listen: {listen}, {POOL}}}\n"


AT = "line 3: loadbalancer.www"
WRONG_BALANCERS: dict[str, tuple[str, str]] = {
    "port 0 to listen at": (listening("0"), f"{AT}.listen: 0 is no port: write 1 to 65535"),
    "port 65536 to listen at": (
        listening("65536"),
        f"{AT}.listen: 65536 is no port: write 1 to 65535",
    ),
    "an address without a port": (
        listening("192.0.2.1"),
        f"{AT}.listen: '192.0.2.1' is no place to listen at: write 80, 192.0.2.1:80 or "
        "[2001:db8::1]:80",
    ),
    "a place that is said twice": (listening("[80, 80]"), f"{AT}.listen: 80 is said twice"),
    "an address among all": (
        listening("[80, '192.0.2.1:80']"),
        f"{AT}.listen: 192.0.2.1:80 is among all addresses of 80 (leave one out)",
    ),
    "a keyword after an address": (
        listening('"192.0.2.1:80 accept-proxy"'),
        f"{AT}.listen: '192.0.2.1:80 accept-proxy' is no place to listen at: write 80, "
        "192.0.2.1:80 or [2001:db8::1]:80",
    ),
    "a pool of nobody": (
        balancer("pool: {port: 80}"),
        f"{AT}.pool.group: a pool has a group or hosts: one of the two",
    ),
    "a pool of both": (
        balancer("pool: {group: db, hosts: db1, port: 80}"),
        f"{AT}.pool.group: a pool has a group or hosts: one of the two",
    ),
    "a pool's port 0": (
        balancer("pool: {group: db, port: 0}"),
        f"{AT}.pool.port: 0 is no port: write 1 to 65535",
    ),
    "a pool without a port": (
        balancer("pool: {group: db}"),
        f"{AT}.pool.port: this key is needed",
    ),
    "a group that nobody is in": (
        balancer("pool: {group: dbs, port: 80}"),
        f"{AT}.pool.group: no host is in the group 'dbs' and no token grants it (did you mean "
        "'db'? known: all, db, web)",
    ),
    "a host that is not there": (
        balancer("pool: {hosts: db2, port: 80}"),
        f"{AT}.pool.hosts: there is no host 'db2' (did you mean 'db1'? known: db1)",
    ),
    "a VPN that is not declared": (
        balancer("pool: {group: db, port: 80, via: backbone}"),
        f"{AT}.pool.via: no VPN 'backbone' is declared (known: none)",
    ),
    "a weight of nobody": (
        balancer("pool: {group: db, port: 80, weights: {dbs: 3}}"),
        f"{AT}.pool.weights: 'dbs' is neither a group nor a host (did you mean 'db'? known: all, "
        "db, db1, web)",
    ),
    "a weight of 257": (
        balancer("pool: {group: db, port: 80, weights: {db: 257}}"),
        f"{AT}.pool.weights.db: 257 is too large: at most 256",
    ),
    "an algorithm that nobody knows": (
        balancer(f"{POOL}, algorithm: rr"),
        f"{AT}.algorithm: 'rr' is none of 'roundrobin', 'leastconn', 'source', 'random', 'first' "
        "or 'uri'",
    ),
    "a check that is none": (
        balancer(f"{POOL}, check: ping"),
        f"{AT}.check: 'ping' is no check: write tcp, none, or {{http: /path}}",
    ),
    "a check's path with a line of its own": (
        balancer(f'{POOL}, check: {{http: "/up\\n  server evil 192.0.2.1:1"}}'),
        f"{AT}.check.http: '/up\\n  server evil 192.0.2.1:1' is no path of a URL: it begins with /",
    ),
    "a status that is none": (
        balancer(f"{POOL}, check: {{http: /, status: 99}}"),
        f"{AT}.check.status: 99 is no status of HTTP: write 200, or 200-399",
    ),
    "a reversed range of statuses": (
        balancer(f"{POOL}, check: {{http: /, status: 399-200}}"),
        f"{AT}.check.status: '399-200' is no status of HTTP: write 200, or 200-399",
    ),
    "an interval in years": (
        balancer(f"{POOL}, check: {{interval: 1y}}"),
        f"{AT}.check.interval: '1y' is no duration: write seconds, or a number and a unit: "
        "200ms, 2s, 5m, 1h",
    ),
    "a certificate with a space": (
        balancer(f"{POOL}, tls: {{certificates: /etc/my cert.pem}}"),
        f"{AT}.tls.certificates: '/etc/my cert.pem' is no file: write its absolute path on the "
        "carrier, of letters, digits and . _ + @ -",
    ),
    "a header with a line break": (
        balancer(f'{POOL}, headers: {{request: {{X-Shop: "a\\nb"}}}}'),
        f"{AT}.headers.request.X-Shop: 'a\\nb' is no value of a header that can be set here",
    ),
    "a header that is the balancer's own": (
        balancer(f"{POOL}, headers: {{request: {{Host: a}}}}"),
        f"{AT}.headers.request.Host: Host is set by the balancer itself",
    ),
    "a cookie with a quote": (
        balancer(f'{POOL}, persistence: cookie, cookie: "a\'b"'),
        f'{AT}.cookie: "a\'b" is no name of a cookie',
    ),
    "routes without requests": (
        balancer(f"{POOL}, mode: tcp, routes: {{path: /a, {POOL}}}"),
        f"{AT}.routes: routes needs mode: http",
    ),
    "a route that says nothing": (
        balancer(f"{POOL}, routes: {{{POOL}}}"),
        f"{AT}.routes.host: a route needs a host, or a path, or both",
    ),
    "a vip without a length": (
        balancer(f"{POOL}, vip: 10.0.0.100"),
        f"{AT}.vip: an address with its prefix length is expected, as 10.0.0.100/24",
    ),
    "a vip that is a host's": (
        balancer(f"{POOL}, vip: 192.168.7.5/24"),
        f"{AT}.vip: 192.168.7.5 is db1's own address (take one that no host has)",
    ),
    "a client's network with host bits": (
        balancer(f"{POOL}, allow: 10.0.0.1/8"),
        f"{AT}.allow: 10.0.0.1/8 has host bits set: did you mean 10.0.0.0/8?",
    ),
    "udp in haproxy": (
        balancer(f"{POOL}, mode: udp"),
        f"{AT}.mode: the driver haproxy cannot do mode: udp (drivers that can: nftables, noop)",
    ),
    "requests in nftables": (
        balancer(f"{POOL}, driver: nftables"),
        f"{AT}.mode: the driver nftables cannot do mode: http (drivers that can: haproxy, noop)",
    ),
}
