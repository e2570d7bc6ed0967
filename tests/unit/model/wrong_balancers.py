# SPDX-License-Identifier: Apache-2.0
"""Load balancers that are wrong, and what a person is told about each; see wrong_documents."""

POOL = "pool: {group: db, port: 80}"


def balancer(spec: str) -> str:
    """A document with one load balancer on the hosts of the group web."""
    return f"deployment: shop\nloadbalancer:\n  www: {{on: web, listen: 80, {spec}}}\n"


def listening(listen: str) -> str:
    return f"deployment: shop\nloadbalancer:\n  www: {{on: web, listen: {listen}, {POOL}}}\n"


def secret(tls: str, more: str = "") -> str:
    return balancer(f"{POOL}, tls: {{certificates: /etc/shop.pem, {tls}}}{more}")


def routed(route: str) -> str:
    return balancer(f"{POOL}, routes: [{{{route}, {POOL}}}]")


AT = "line 3: loadbalancer.www"
A_FILE = "is no file: write its absolute path on the carrier, of letters, digits and . _ + @ -"
A_DURATION = "is no duration: write seconds, or a number and a unit: 200ms, 2s, 5m, 1h"
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
        f"{AT}.mode: the driver haproxy cannot do mode: udp "
        "(drivers that can: nftables, noop, octavia)",
    ),
    "requests in nftables": (
        balancer(f"{POOL}, driver: nftables"),
        f"{AT}.mode: the driver nftables cannot do mode: http "
        "(drivers that can: haproxy, noop, octavia)",
    ),
    "carriers that nobody is": (
        f"deployment: shop\nloadbalancer:\n  www: {{on: wbe, listen: 80, {POOL}}}\n",
        f"{AT}.on: no host is in the group 'wbe' and no token grants it (did you mean 'web'? "
        "known: all, db, web)",
    ),
    "every address as one": (
        listening("'0.0.0.0:80'"),
        f"{AT}.listen: 0.0.0.0 is every address: write 80",
    ),
    "IPv4 in IPv6": (
        listening("'[::ffff:192.0.2.1]:80'"),
        f"{AT}.listen: ::ffff:c000:201 is an address of IPv4: write 192.0.2.1:80",
    ),
    "an address of many": (
        listening("'224.0.0.1:80'"),
        f"{AT}.listen: 224.0.0.1 is no address of a single host: write one that clients call",
    ),
    "the vip as a place": (
        listening("'10.0.0.100:80', vip: 10.0.0.100/24"),
        f"{AT}.listen: the vip is not always here (write 80: all addresses)",
    ),
    "two at one port": (
        f"deployment: shop\nloadbalancer:\n  api: {{on: all, listen: 80, {POOL}}}\n"
        f"  www: {{on: db, listen: 80, {POOL}}}\n",
        "line 4: loadbalancer.www.listen: port 80 is api's on db1 (take another port, or other "
        "addresses)",
    ),
    "a mode of its own": (
        balancer(f"{POOL}, mode: https"),
        f"{AT}.mode: 'https' is none of 'http', 'tcp' or 'udp'",
    ),
    "no pool": (balancer("algorithm: first"), f"{AT}.pool: this key is needed"),
    "a backup that nobody is": (
        balancer("pool: {group: db, port: 80, backup: db2}"),
        f"{AT}.pool.backup: 'db2' is neither a group nor a host (did you mean 'db'? known: all, "
        "db, db1, web)",
    ),
    "a check of perhaps": (
        balancer(f"{POOL}, check: {{tcp: perhaps}}"),
        f"{AT}.check.tcp: 'perhaps' is neither true nor false",
    ),
    "a check that changes things": (
        balancer(f"{POOL}, check: {{http: /, method: POST}}"),
        f"{AT}.check.method: 'POST' is none of 'GET', 'HEAD' or 'OPTIONS'",
    ),
    "a check of all names": (
        balancer(f"{POOL}, check: {{http: /, host: '*.example.org'}}"),
        f"{AT}.check.host: '*.example.org' is no host name",
    ),
    "a check without time": (
        balancer(f"{POOL}, check: {{timeout: 0}}"),
        f"{AT}.check.timeout: 0 is too small: at least 0.05",
    ),
    "a rise of 0": (
        balancer(f"{POOL}, check: {{rise: 0}}"),
        f"{AT}.check.rise: 0 is too small: at least 1",
    ),
    "a fall of 101": (
        balancer(f"{POOL}, check: {{fall: 101}}"),
        f"{AT}.check.fall: 101 is too large: at most 100",
    ),
    "persistence by something else": (
        balancer(f"{POOL}, persistence: ip"),
        f"{AT}.persistence: 'ip' is none of 'none', 'source' or 'cookie'",
    ),
    "a cookie in connections": (
        balancer(f"{POOL}, mode: tcp, persistence: cookie"),
        f"{AT}.persistence: cookie needs mode: http",
    ),
    "a certificate somewhere": (
        balancer(f"{POOL}, tls: {{certificates: shop.pem}}"),
        f"{AT}.tls.certificates: 'shop.pem' {A_FILE}",
    ),
    "a certificate on the way up": (
        balancer(f"{POOL}, tls: {{certificates: /etc/../shop.pem}}"),
        f"{AT}.tls.certificates: '/etc/../shop.pem' {A_FILE}",
    ),
    "TLS without a certificate": (
        balancer(f"{POOL}, tls: {{minimum: 1.3}}"),
        f"{AT}.tls.certificates: this key is needed",
    ),
    "an old version of TLS": (
        secret("minimum: 1.1"),
        f"{AT}.tls.minimum: '1.1' is none of '1.2' or '1.3'",
    ),
    "an authority somewhere": (
        secret("client_ca: ca.pem"),
        f"{AT}.tls.client_ca: 'ca.pem' {A_FILE}",
    ),
    "a redirect from nowhere": (
        secret("redirect: 70000"),
        f"{AT}.tls.redirect: 70000 is no port: write 1 to 65535",
    ),
    "a redirect to itself": (secret("redirect: 80"), f"{AT}.listen: 80 is said twice"),
    "a redirect of connections": (
        secret("redirect: 81", ", mode: tcp"),
        f"{AT}.tls: redirect needs mode: http",
    ),
    "no time to connect": (
        balancer(f"{POOL}, timeouts: {{connect: 0s}}"),
        f"{AT}.timeouts.connect: '0s' is too small: at least 0.05",
    ),
    "a client of two days": (
        balancer(f"{POOL}, timeouts: {{client: 2d}}"),
        f"{AT}.timeouts.client: '2d' is too large: at most 86400",
    ),
    "a server before its time": (
        balancer(f"{POOL}, timeouts: {{server: -1}}"),
        f"{AT}.timeouts.server: -1 is too small: at least 0.05",
    ),
    "a request soon": (
        balancer(f"{POOL}, timeouts: {{request: soon}}"),
        f"{AT}.timeouts.request: 'soon' {A_DURATION}",
    ),
    "a tunnel that is true": (
        balancer(f"{POOL}, timeouts: {{tunnel: true}}"),
        f"{AT}.timeouts.tunnel: True {A_DURATION}",
    ),
    "a connection kept for a moment": (
        balancer(f"{POOL}, timeouts: {{keep_alive: 1ms}}"),
        f"{AT}.timeouts.keep_alive: '1ms' is too small: at least 0.05",
    ),
    "connections that are no number": (
        balancer(f"{POOL}, max_connections: true"),
        f"{AT}.max_connections: True is not a whole number",
    ),
    "a number of connections in quotes": (
        balancer(f"{POOL}, max_connections: '7'"),
        f"{AT}.max_connections: '7' is not a whole number",
    ),
    "a weight that is no number": (
        balancer("pool: {group: db, port: 80, weights: {db: true}}"),
        f"{AT}.pool.weights.db: True is not a whole number",
    ),
    "a rise in quotes": (
        balancer(f"{POOL}, check: {{rise: '2'}}"),
        f"{AT}.check.rise: '2' is not a whole number",
    ),
    "a rise with a point": (
        balancer(f"{POOL}, check: {{rise: 2.0}}"),
        f"{AT}.check.rise: 2.0 is not a whole number",
    ),
    "a fall that is no number": (
        balancer(f"{POOL}, check: {{fall: true}}"),
        f"{AT}.check.fall: True is not a whole number",
    ),
    "a word for true in a check": (
        balancer(f"{POOL}, check: {{tcp: 'yes'}}"),
        f"{AT}.check.tcp: 'yes' is neither true nor false",
    ),
    "a word for true in the PROXY protocol": (
        balancer(f"{POOL}, proxy_protocol: {{accept: 'yes'}}"),
        f"{AT}.proxy_protocol.accept: 'yes' is neither true nor false",
    ),
    "a number for true": (
        balancer(f"{POOL}, headers: {{forwarded: 1}}"),
        f"{AT}.headers.forwarded: 1 is neither true nor false",
    ),
    "no connections": (
        balancer(f"{POOL}, max_connections: 0"),
        f"{AT}.max_connections: 0 is too small: at least 1",
    ),
    "a version to accept": (
        balancer(f"{POOL}, proxy_protocol: {{accept: v1}}"),
        f"{AT}.proxy_protocol.accept: 'v1' is neither true nor false",
    ),
    "a third version to send": (
        balancer(f"{POOL}, proxy_protocol: {{send: v3}}"),
        f"{AT}.proxy_protocol.send: 'v3' is none of 'v1' or 'v2'",
    ),
    "the PROXY protocol of datagrams": (
        balancer(f"{POOL}, mode: udp, driver: noop, proxy_protocol: {{send: v1}}"),
        f"{AT}.proxy_protocol: the PROXY protocol is TCP's",
    ),
    "a drain of more than a day": (
        balancer(f"{POOL}, drain: 25h"),
        f"{AT}.drain: '25h' is too large: at most 86400",
    ),
    "headers to forward by name": (
        balancer(f"{POOL}, headers: {{forwarded: X-Real-IP}}"),
        f"{AT}.headers.forwarded: 'X-Real-IP' is neither true nor false",
    ),
    "a header of two words": (
        balancer(f"{POOL}, headers: {{request: {{X Shop: a}}}}"),
        f"{AT}.headers.request.X Shop: 'X Shop' is no name of a header",
    ),
    "a header that asks HAProxy": (
        balancer(f'{POOL}, headers: {{response: {{X-Shop: "%[env(HOME)]"}}}}'),
        f"{AT}.headers.response.X-Shop: '%[env(HOME)]' is no value of a header that can be set "
        "here",
    ),
    "a route that is a number": (
        routed("name: '7', path: /a"),
        f"{AT}.routes.0.name: 7 cannot be a name: it looks like a number",
    ),
    "a route of the others": (
        routed("name: default, path: /a"),
        f"{AT}.routes.0.name: default is what no route matches",
    ),
    "two routes of one name": (
        balancer(f"{POOL}, routes: [{{name: a, path: /a, {POOL}}}, {{name: a, path: /b, {POOL}}}]"),
        f"{AT}.routes: two routes are called a",
    ),
    "a star in the middle": (
        routed("host: [example.org, 'a.*.org']"),
        f"{AT}.routes.0.host.1: 'a.*.org' is no host name",
    ),
    "a route by a query": (
        balancer(f"{POOL}, routes: {{path: '/a?b', {POOL}}}"),
        f"{AT}.routes.path: '/a?b' is no beginning of a path: it begins with /, and ends before "
        "any ?",
    ),
    "a route without a pool": (
        balancer(f"{POOL}, routes: [{{path: /a}}]"),
        f"{AT}.routes.0.pool: this key is needed",
    ),
    "a route to nobody": (
        balancer(f"{POOL}, routes: [{{path: /a, pool: {{group: dbs, port: 80}}}}]"),
        f"{AT}.routes.0.pool.group: no host is in the group 'dbs' and no token grants it (did you "
        "mean 'db'? known: all, db, web)",
    ),
    "a vip that is a network": (
        balancer(f"{POOL}, vip: 10.0.0.0/24"),
        f"{AT}.vip: 10.0.0.0 is 10.0.0.0/24 itself: take an address in it",
    ),
    "a vip that is everybody's": (
        balancer(f"{POOL}, vip: 10.0.0.255/24"),
        f"{AT}.vip: 10.0.0.255 is everybody's in 10.0.0.0/24: take another one",
    ),
    "a vip without room": (
        balancer(f"{POOL}, vip: 10.0.0.100/32"),
        f"{AT}.vip: 10.0.0.100/32 has no room for carriers: write the length of their network",
    ),
    "a driver that nobody installed": (
        balancer(f"{POOL}, driver: envoy"),
        f"{AT}.driver: no driver 'envoy' (known: haproxy, nftables, noop, octavia)",
    ),
    "the carrier's own address in nftables": (
        listening("'127.0.0.1:80', mode: tcp, driver: nftables"),
        f"{AT}.listen: the driver nftables cannot do listen: an address of the carrier's own "
        "loopback (drivers that can: haproxy, noop)",
    ),
}
