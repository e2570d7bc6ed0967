# SPDX-License-Identifier: Apache-2.0
"""What the cloud's own services cannot do, and how that is told at plan; see wrong_documents."""


def guard(spec: str) -> str:
    """A firewall in security groups."""
    return f"deployment: shop\nfirewall:\n  perimeter: {{driver: security_group, {spec}}}\n"


def octavia(spec: str, pool: str = "group: db, port: 80") -> str:
    """A load balancer of Octavia's."""
    given = f"on: web, driver: octavia, pool: {{{pool}}}, {spec}"
    return f"deployment: shop\nloadbalancer:\n  www: {{{given}}}\n"


FIREWALL, BALANCER = "line 3: firewall.perimeter", "line 3: loadbalancer.www"
ALL_OTHERS = "(drivers that can: haproxy, noop)"
UNSEEN = "the cloud does not see what is inside of a VPN's packets"
WRONG_CLOUDS: dict[str, tuple[str, str]] = {
    "a security group that only counts": (
        guard("mode: audit"),
        f"{FIREWALL}.mode: a security group cannot only count (leave it out)",
    ),
    "a security group that lets everything in": (
        guard("default: {inbound: accept}"),
        f"{FIREWALL}.default.inbound: a security group drops what no rule lets in (write drop)",
    ),
    "a security group that answers": (
        guard("default: {inbound: reject}"),
        f"{FIREWALL}.default.inbound: a security group drops what no rule lets in (write drop)",
    ),
    "a security group that could cut the agent off": (
        guard("default: {outbound: drop}"),
        f"{FIREWALL}.default.outbound: a security group does not know the agent's way to the "
        "core, and could cut it off (leave it out: what hosts send is let out)",
    ),
    "a security group for what is sent": (
        guard("outbound: [{to: db}]"),
        f"{FIREWALL}.outbound: a security group does not know the agent's way to the core, and "
        "could cut it off (leave it out: what hosts send is let out)",
    ),
    "a security group that logs": (
        guard("log: true"),
        f"{FIREWALL}.log: a security group logs nothing (leave it out)",
    ),
    "a security group that denies": (
        guard("inbound: [{from: db, action: drop}]"),
        f"{FIREWALL}.inbound.0.action: a security group can only let in, not drop (leave the rule "
        "out: what no rule lets in is dropped)",
    ),
    "a security group that logs a rule": (
        guard("inbound: [{from: db, log: true}]"),
        f"{FIREWALL}.inbound.0.log: a security group has no log (leave it out)",
    ),
    "a security group that counts packets": (
        guard("inbound: [{from: db, limit: 10/second}]"),
        f"{FIREWALL}.inbound.0.limit: a security group has no limit (leave it out)",
    ),
    "a security group for addresses": (
        guard("inbound: [{from: db, to: 10.1.0.0/24}]"),
        f"{FIREWALL}.inbound.0.to: a security group is for all addresses of a port (name hosts or "
        "groups)",
    ),
    "an address of Octavia's own": (
        octavia("listen: '192.0.2.1:80'"),
        f"{BALANCER}.listen.0: Octavia listens at its VIP alone (write the port, and vip)",
    ),
    "checks of Octavia's between seconds": (
        octavia("listen: 80, check: {http: /, interval: 1500ms}"),
        f"{BALANCER}.check.interval: Octavia counts in whole seconds (write 1s)",
    ),
    "more checks than Octavia counts": (
        octavia("listen: 80, check: {http: /, fall: 11}"),
        f"{BALANCER}.check.fall: Octavia counts to 10 (write less)",
    ),
    "a time-out longer than Octavia's interval": (
        octavia("listen: 80, check: {http: /, interval: 2s, timeout: 3s}"),
        f"{BALANCER}.check.timeout: Octavia takes no time-out above the interval (write less)",
    ),
    "several ranges of statuses in Octavia": (
        octavia("listen: 80, check: {http: /, status: [200, 301]}"),
        f"{BALANCER}.check.status: Octavia takes one range of statuses (write one)",
    ),
    "routes in Octavia": (
        octavia("listen: 80, routes: [{path: /a, pool: {group: db, port: 81}}]"),
        f"{BALANCER}.routes: the driver octavia cannot do routes {ALL_OTHERS}",
    ),
    "a cookie in Octavia": (
        octavia("listen: 80, persistence: cookie"),
        f"{BALANCER}.persistence: the driver octavia cannot do persistence: cookie {ALL_OTHERS}",
    ),
}
