# SPDX-License-Identifier: Apache-2.0
"""Who is on the stage: VMs, the documents that operators apply, the flows between the VMs. Pure."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from cnsmo.lab.topology import VmSpec
from tests.chaos.history import Flow
from tests.chaos.schedule import Stage

DEPLOYMENT, VPN = "shop", "backbone"
FEWEST = 4
VMS = (
    VmSpec("edge1", "east", ("edge",)),
    VmSpec("web1", "east", ("web",)),
    VmSpec("web2", "west", ("web",)),
    VmSpec("client1", "west", ("client",), nat=True),
    VmSpec("app1", "south", ("app",)),
    VmSpec("edge2", "west", ("edge",)),
    VmSpec("web3", "south", ("web",)),
    VmSpec("db1", "east", ("db",)),
    VmSpec("client2", "south", ("client",)),
    VmSpec("app2", "east", ("app",)),
    VmSpec("db2", "west", ("db",)),
    VmSpec("web4", "south", ("web",)),
)
"""Of a smaller stage, the first ones."""
CORES = ("core1", "core2")
ECHO, WEB, PROXY, KERNEL = 7000, 8080, 80, 81
"""Ports that every version opens: UDP and TCP within the VPN; the pool's, for the edges; haproxy's
and the kernel's balancer."""
SHUT = 7001
"""UDP and TCP, which no version opens and at which every VM listens."""
FIRST_MARKER = 20_000
"""Marker n is an open TCP port of its own, at which nobody listens: 20000 + n."""
_HEAD = """\
deployment: {deployment}
vpn:
  {vpn}: {{cidr: 10.66.0.0/24}}
"""
_FIREWALL = """\
firewall:
  perimeter:
    inbound:
      - {{name: ping, protocol: icmp, icmp: echo-request, via: {vpn}}}
      - {{name: echo-udp, protocol: udp, ports: {echo}, via: {vpn}}}
      - {{name: echo-tcp, protocol: tcp, ports: {echo}, via: {vpn}}}
      - {{name: www, from: any, to: edge, protocol: tcp, ports: [{proxy}, {kernel}]}}
      - {{name: pool, from: edge, to: web, protocol: tcp, ports: {web}, via: {vpn}}}
      - {{name: mark-{marker}, protocol: tcp, ports: {port}}}
    tests:
      - {{from: 203.0.113.1, to: edge, port: {proxy}, expect: accept}}
      - {{from: 203.0.113.1, to: web, port: {web}, expect: {verdict}}}
"""
_BALANCERS = """\
loadbalancer:
  www:
    on: edge
    listen: {proxy}
    pool: {{group: {group}, port: {web}, via: {vpn}, weights: {{web1: {weight}}}}}
    algorithm: {algorithm}
    check: {{http: /, interval: 1s}}
  fast:
    on: edge
    listen: {kernel}
    mode: tcp
    driver: nftables
    pool: {{group: web, port: {web}, via: {vpn}, weights: {{web1: {weight}}}}}
    check: {{interval: 1s}}
"""
GOOD: Mapping[str, str] = {"group": "web", "verdict": "drop"}
REFUSED: tuple[Mapping[str, str], ...] = (
    {"group": "nobody-has-this", "verdict": "drop"},
    {"group": "web", "verdict": "accept"},
)
"""What makes a document one that the core refuses: a mistake, and a policy test that fails."""


def document(marker: int, chance: random.Random, kind: Mapping[str, str] = GOOD) -> str:
    """A version of the deployment's document; what varies touches nothing that flows."""
    return (_HEAD + _FIREWALL + _BALANCERS).format(**_values(marker, chance), **kind)


def without_firewall() -> str:
    """The document in which nothing is forbidden."""
    return (_HEAD + _BALANCERS).format(**_values(0, random.Random(0)), **GOOD)


def _values(marker: int, chance: random.Random) -> dict[str, object]:
    return {
        "deployment": DEPLOYMENT,
        "vpn": VPN,
        "echo": ECHO,
        "web": WEB,
        "proxy": PROXY,
        "kernel": KERNEL,
        "marker": marker,
        "port": FIRST_MARKER + marker,
        "weight": chance.randint(1, 5),
        "algorithm": chance.choice(("roundrobin", "leastconn", "random")),
    }


def stage(count: int) -> Stage:
    """Whom faults can befall on a stage of so many VMs."""
    vms = VMS[:count]
    return Stage(
        vms=tuple(it.name for it in vms),
        edges=tuple(it.name for it in vms if "edge" in it.groups),
        sites=tuple(dict.fromkeys(it.site for it in vms)),
        cores=CORES,
    )


def flows(
    vms: Sequence[VmSpec], inner: Mapping[str, str], outer: Mapping[str, str]
) -> tuple[Flow, ...]:
    """All that is sent. inner: addresses in the VPN; outer: those that others can call besides."""
    count, found = len(vms), []
    pool = tuple(it.name for it in vms if "web" in it.groups)
    for at, vm in enumerate(vms):
        near, far = vms[(at + 1) % count].name, vms[(at + count // 2) % count].name
        found += [
            Flow("udp", vm.name, near, inner[near], ECHO, True),
            Flow("tcp", vm.name, far, inner[far], ECHO, True),
            Flow("udp", vm.name, far, inner[far], SHUT, False),
            Flow("tcp", vm.name, near, inner[near], SHUT, False),
        ]
        found += [
            Flow(kind, vm.name, near, outer[near], port, False)
            for kind, port in (("udp", ECHO), ("tcp", SHUT))
            if near in outer
        ]
        if "client" in vm.groups:
            found += _calls(vm.name, vms, pool, inner, outer)
    return tuple(found)


def _calls(
    client: str,
    vms: Sequence[VmSpec],
    pool: tuple[str, ...],
    inner: Mapping[str, str],
    outer: Mapping[str, str],
) -> list[Flow]:
    """What a client asks: each edge both ways, and a server past its balancer."""
    edges = [it.name for it in vms if "edge" in it.groups]
    found = [
        Flow("http", client, edge, address, port, True, pool)
        for edge in edges
        for address, port in (
            (outer[edge], PROXY),
            (inner[edge], PROXY),
            (outer[edge], KERNEL),
        )
    ]
    return [*found, Flow("http", client, pool[0], inner[pool[0]], WEB, False)]
