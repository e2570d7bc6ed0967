# SPDX-License-Identifier: Apache-2.0
"""Policies and packets by chance: what the oracle says, what judge() says, what the kernel does."""

import os
import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from pydantic import ValidationError

from cnsmo.model.resource import AGENT, Row, joined
from cnsmo.services.firewall.desired import UNDERLAY, Direction, FirewallDesired
from cnsmo.services.firewall.drivers.nft_render import Renderer, Ways
from cnsmo.services.firewall.judge import Packet as Judged
from cnsmo.services.firewall.judge import judge
from cnsmo.services.firewall.spec import FirewallSpec
from tests.functional.firewall.oracle import (
    ICMP,
    ICMPV6,
    TCP,
    UDP,
    VPN_PORT,
    Cast,
    Packet,
    Site,
    verdict,
)
from tests.functional.firewall.wires import Wires
from tests.unit.services.firewall import scenes
from tests.unit.services.vpn.scenes import instance, row

ME = "m1"
HOSTS = {
    ME: (["10.1.0.11/24", "fd01::11/64"], ["198.51.100.11"]),
    "a1": (["10.1.0.12/24", "fd01::12/64"], ["198.51.100.12", "2001:db8::12"]),
    "b1": (["10.2.0.13/24"], ["198.51.100.13"]),
    "c1": (["fd01::14/64", "fe80::14/64"], ["2001:db8::14"]),
    "d1": (["10.3.0.15/24", "10.1.0.15/24"], []),
}
VPN = {name: (f"10.66.0.{at}", f"fd66::{at}") for at, name in enumerate(HOSTS, 1)}
POOLS = ("10.66.0.0/16", "fd66::/64")
MINE = [it.partition("/")[0] for each in HOSTS[ME] for it in each] + list(VPN[ME])
STRANGERS = ("203.0.113.7", "10.1.0.200", "10.66.9.9", "2001:db8:f::7", "fd01::200", "fd66::99")
OTHERS = [name for name in HOSTS if name != ME]
OWN_THEIRS = [it.partition("/")[0] for name in OTHERS for each in HOSTS[name] for it in each]
OWN_THEIRS = [it for it in OWN_THEIRS if not it.startswith("fe80")]
VPN_THEIRS = [it for name in OTHERS for it in VPN[name]]
THEIRS = [*OWN_THEIRS, *VPN_THEIRS, *STRANGERS]
GROUPS = ("web", "db", "edge")
PORTS = (22, 53, 67, 68, 80, 443, 546, 547, 7999, 8000, 8050, 8100, 8101, VPN_PORT)
PORTS_USED = (22, 80, 443, 7999, 8000, 8100, 8101)
ESP, SCTP = 50, 132
RAW = (ESP, SCTP)
TYPES = {ICMP: (0, 3, 5, 8, 11, 13), ICMPV6: (1, 2, 128, 129, 133, 135, 136, 137, 143)}
NOTHING = "add table inet cnsmo\ndelete table inet cnsmo\n"
STATES: tuple[list[str], ...] = ([], ["ready"], ["down", "ready"], ["down"], ["left", "down"])
"""Of the agents of a host."""
BATCH, POLICIES = 25, 160
SEED = int(os.environ.get("CNSMO_SEED") or random.SystemRandom().randrange(2**32))

Policies = dict[str, dict[str, Any]]

names = st.sampled_from(["a1", "host:b1", "c1", "host:d1", ME, f"host:{ME}"])
groups = st.sampled_from(["web", "group:web", "db", "edge", "group:edge", "all", "group:all"])
networks = st.sampled_from(
    ["10.1.0.0/24", "10.1.0.11", "198.51.100.0/24", "0.0.0.0/0", "10.66.0.0/16", "10.66.0.1",
     "203.0.113.7/32", "fd01::/64", "fd01::12", "2001:db8::/32", "::/0", "fd66::/64", "fd66::1"]
)  # fmt: skip
terms = st.one_of(st.just("any"), names, groups, networks, st.just("vpn:backbone"))
who = st.one_of(terms, st.lists(terms, min_size=1, max_size=3))
port = st.one_of(
    st.sampled_from([22, 53, 80, 443, 8000, VPN_PORT]),
    st.sampled_from(
        ["8000-8100", "8000-8100", "https", "domain", "80", "1-1023", "8050-65535", "8100-8101"]
    ),
)
ports = st.one_of(port, st.lists(port, min_size=1, max_size=3))
actions = st.sampled_from(["accept", "drop", "reject"])
flows = st.one_of(
    st.just({}),
    st.just({}),
    st.fixed_dictionaries({"protocol": st.sampled_from(["tcp", "udp", 6, "17", "sctp"])}),
    st.fixed_dictionaries({"protocol": st.sampled_from(["tcp", "udp", "sctp"]), "ports": ports}),
    st.fixed_dictionaries({"protocol": st.sampled_from(["icmp", "icmpv6", "esp", "any", "50"])}),
    st.fixed_dictionaries(
        {
            "protocol": st.just("icmp"),
            "icmp": st.sampled_from(["echo-request", 8, "13", ["echo-reply", 5], "time-exceeded"]),
        }
    ),
    st.fixed_dictionaries(
        {
            "protocol": st.just("icmpv6"),
            "icmp": st.sampled_from(["echo-request", [129, "137"], ["packet-too-big", 128]]),
        }
    ),
)


def _valid(rule: dict[str, Any]) -> bool:
    try:
        FirewallSpec.model_validate({"inbound": [rule]})
    except ValidationError:
        return False
    return True


def rules(near: str, far: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    """near: the key that speaks of the host under test."""
    more = {
        near: st.one_of(who, st.sampled_from(MINE)),
        far: who,
        "via": st.sampled_from(["underlay", "backbone", "vpn:backbone"]),
        "log": st.just(True),
    }
    parts = st.fixed_dictionaries({"action": actions}, optional=more)
    return st.lists(st.builds(lambda a, b: {**a, **b}, flows, parts).filter(_valid), max_size=6)


failsafes = st.fixed_dictionaries(
    {"ports": st.sampled_from([22, [22, 443], "8000-8100"])},
    optional={"from": who, "protocol": st.sampled_from(["tcp", "udp", "sctp"])},
)
policies = st.fixed_dictionaries(
    {"inbound": rules("to", "from"), "outbound": rules("from", "to")},
    optional={
        "default": st.fixed_dictionaries({}, optional={"inbound": actions, "outbound": actions}),
        "mode": st.sampled_from(["enforce", "enforce", "enforce", "audit"]),
        "hosts": st.sampled_from(["all", "web", ["web", "db"], ["edge", "all"]]),
        "priority": st.sampled_from([50, 100, 200]),
        "failsafe": st.one_of(failsafes, st.lists(failsafes, max_size=2)),
        "log": st.sampled_from([True, "5/minute"]),
    },
)


@st.composite
def packets(draw: st.DrawFn) -> Packet:
    """From and to anybody of the cast, or a stranger, on either wire."""
    version = draw(st.sampled_from([4, 6]))
    icmp = ICMP if version == 4 else ICMPV6
    vpn = draw(st.booleans())
    usual = _of_version(version, VPN_THEIRS if vpn else OWN_THEIRS)
    protocol = draw(st.sampled_from([TCP, TCP, UDP, UDP, icmp, *RAW]))
    return Packet(
        inbound=draw(st.booleans()),
        vpn=vpn,
        peer=ip_address(draw(st.sampled_from([*usual, *usual, *_of_version(version, THEIRS)]))),
        local=ip_address(draw(st.sampled_from(_of_version(version, MINE)))),
        protocol=protocol,
        port=draw(st.sampled_from([*PORTS, *PORTS_USED, *PORTS_USED]))
        if protocol in (TCP, UDP, SCTP)
        else None,
        type=draw(st.sampled_from(TYPES[protocol])) if protocol in TYPES else None,
    )


def _of_version(version: int, texts: Iterable[str]) -> list[str]:
    return [text for text in texts if (":" in text) == (version == 6)]


class Scene:
    """A deployment, for the oracle and as compile() sees it; and what is sent there."""

    def __init__(self, site: Site, policies: Policies, rows: list[Row], batch: list[Packet]):
        self.site = site
        self.policies = policies
        self.desired = scenes.FIREWALL.firewall(scenes.view(rows), ME)
        self.packets = batch

    def __repr__(self) -> str:
        return f"{self.policies}, {self.site}"


@st.composite
def deployments(draw: st.DrawFn) -> Scene:
    """The cast plays: who is in which groups, in the VPN, down, behind a NAT, without IPv6."""
    pools = draw(st.sampled_from([POOLS, POOLS[:1], POOLS[1:]]))
    hosts: dict[str, Cast] = {}
    rows: list[Row] = [instance(cidr=list(pools), members=["inside"], driver="wireguard")]
    for name in HOSTS:
        rows += _host(draw, name, pools, hosts)
    written = dict(zip("pqr", draw(st.lists(policies, min_size=1, max_size=3)), strict=False))
    rows += [scenes.policy(name, **policy) for name, policy in written.items()]
    batch = draw(st.lists(packets(), min_size=BATCH, max_size=BATCH))
    return Scene(Site(hosts, ME, pools), written, rows, batch)


def _host(draw: st.DrawFn, name: str, pools: tuple[str, ...], hosts: dict[str, Cast]) -> list[Row]:
    """Add one to the hosts; its rows."""
    inside = draw(st.sampled_from([True, True, True, False]))
    groups = draw(st.frozensets(st.sampled_from(GROUPS))) | ({"inside"} if inside else set())
    six = draw(st.booleans())
    private, public = ([it for it in each if six or ":" not in it] for each in HOSTS[name])
    nat = not public and draw(st.booleans())
    states = draw(st.sampled_from(STATES))
    own = [it.partition("/")[0] for it in (*private, *public) if not it.startswith("fe80")]
    vpn = [it for it in VPN[name] if any((":" in it) == (":" in pool) for pool in pools)]
    gone = bool(states) and {"down", "left"}.issuperset(states)
    hosts[name] = Cast(groups, tuple(own), tuple(vpn) if inside else (), gone, nat)
    agents = [
        row(AGENT, joined(name, service), {"state": state, "reason": ""}, f"h-{name}")
        for service, state in zip(("vpn", "firewall"), states, strict=False)
    ]
    members = [scenes.member(name, *vpn, driver="wireguard")] if inside else []
    facts = {"private": private, "public": public, "behind_nat": nat}
    return [scenes.host(name, *groups, **facts), *agents, *members]


def judged(desired: FirewallDesired | None, packet: Packet) -> str:
    """What judge() says."""
    if desired is None:
        return "accept"
    realm = "backbone" if packet.vpn and "backbone" in desired.interfaces else UNDERLAY
    direction = Direction.INBOUND if packet.inbound else Direction.OUTBOUND
    asked = Judged(realm, packet.peer, packet.local, packet.protocol, packet.port, packet.type)
    return judge(desired, direction, asked).action


def expected(said: str, packet: Packet) -> str:
    """What is seen of a verdict: nobody is told about an ICMP redirect (RFC 1122, 3.2.2)."""
    redirect = (packet.protocol, packet.type) == (ICMP, 5)
    return "drop" if redirect and said == "reject" else said


@pytest.fixture(scope="module")
def wires() -> Iterator[Wires]:
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces with nftables")
    bed = Wires(MINE, THEIRS, POOLS, PORTS, RAW)
    yield bed
    bed.close()


@pytest.mark.timeout(900)
def test_the_kernel_does_what_the_rules_say(
    wires: Wires, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: Counter[str] = Counter()

    @hypothesis.seed(SEED)
    @hypothesis.settings(max_examples=POLICIES, derandomize=False, report_multiple_bugs=False)
    @hypothesis.given(deployments())
    def compare(scene: Scene) -> None:
        desired = scene.desired
        wires.load(Renderer("oracle").render(desired, Ways()).text if desired else NOTHING)
        for packet in scene.packets:
            said = verdict(scene.site, scene.policies, packet)
            found = {"judge": judged(desired, packet), "kernel": wires.send(packet)}
            seen[said] += 1
            assert found == {"judge": said, "kernel": expected(said, packet)}, (
                f"{packet}: the oracle says {said}, {found}; {scene}; CNSMO_SEED={SEED}"
            )

    began = time.monotonic()
    try:
        compare()
    finally:
        shown = ", ".join(f"{count} {said}" for said, count in sorted(seen.items()))
        seconds = time.monotonic() - began
        with capsys.disabled():
            print(f"\noracle: {seen.total()} pairs, seed {SEED} ({shown}; {seconds:.0f} s)")
    assert seen.total() >= BATCH * POLICIES
    assert min(seen["accept"], seen["drop"], seen["reject"]) > BATCH
