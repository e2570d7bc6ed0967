# SPDX-License-Identifier: Apache-2.0
"""200 applies under traffic of all kinds: what both policies say of a packet holds all the time."""

import dataclasses
import os
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterator

import pytest

from cnsmo.services.firewall.desired import Action, Line
from tests.functional.firewall.callers import Caller, Traffic
from tests.functional.firewall.scene import (
    ONE,
    ONE6,
    TCP,
    TWO,
    TWO6,
    UDP,
    VPN_ONE,
    VPN_TWO,
    Scene,
    desired,
    opened,
)
from tests.functional.firewall.traffic import Lane
from tests.functional.vpn.vms import Net

pytestmark = pytest.mark.timeout(300)
"""All applies are made before the first test: one minute, or two where a machine is busy."""

APPLIES = 200
SEVERAL_HUNDRED = 500
OPEN, SHUT, DISPUTED, LONG, INNER, FREE = range(7000, 7006)
"""Ports: open to the neighbour; shut to it; open in one policy; where the transfer goes; open on
the VPN alone; open to everybody."""
ALLOWED = (
    Lane("ask", "tcp", ONE, OPEN),
    Lane("ask", "udp", ONE, OPEN),
    Lane("ask", "udp", ONE6, OPEN),
    Lane("ask", "udp", VPN_ONE, INNER),
)
ALLOWED_OUT = (
    Lane("ask", "tcp", TWO, OPEN),
    Lane("ask", "udp", TWO, OPEN),
    Lane("ask", "udp", VPN_TWO, OPEN),
)
DENIED = (
    Lane("knock", "tcp", ONE, SHUT),
    Lane("insist", "udp", ONE, SHUT),
    Lane("insist", "udp", ONE6, SHUT),
    Lane("insist", "udp", ONE, INNER),
    Lane("insist", "udp", VPN_ONE, OPEN),
    Lane("insist", "udp", ONE, FREE, source=VPN_TWO),
)
DENIED_OUT = (Lane("knock", "tcp", TWO, SHUT), Lane("insist", "udp", TWO, SHUT))
IN_DISPUTE = Lane("knock", "udp", ONE, DISPUTED)
TRANSFER = Lane("stream", "tcp", ONE, LONG)
INBOUND = (
    Caller(0.004, ALLOWED),
    Caller(0.0005, DENIED),
    Caller(0.1, (IN_DISPUTE,)),
    Caller(0.005, (TRANSFER,)),
)
OUTBOUND = (Caller(0.01, ALLOWED_OUT), Caller(0.005, DENIED_OUT))
FORGET_SOON = (
    "sysctl -qw net.netfilter.nf_conntrack_udp_timeout=1 "
    "net.netfilter.nf_conntrack_udp_timeout_stream=1 "
    "net.netfilter.nf_conntrack_tcp_timeout_time_wait=1"
)
"""So that at each apply there are hundreds of flows to judge, and not all that ever were."""


def ports(*ranges: tuple[int, int], name: str) -> Line:
    """A line that accepts TCP to ranges of ports."""
    return Line(f"p/inbound/{name}", Action.ACCEPT, protocol=TCP, ports=ranges)


def to(port: int, peers: str, protocol: int = UDP, action: Action = Action.ACCEPT) -> Line:
    """A line about a port and a set of addresses."""
    return opened(port, protocol, action=action, version=int(peers[-1]), peers=peers)


def bans(action: Action) -> tuple[Line, ...]:
    """Some networks are shut out of a port that is open to all others."""
    forbidden = [to(SHUT, "bans_4", it, action) for it in (TCP, UDP)]
    return (*forbidden, to(SHUT, "bans_6", action=action), opened(SHUT), opened(SHUT, UDP))


PING = Line("p/inbound/ping", Action.ACCEPT, 4, protocol=1, types=(8,))
STRICT = desired(
    dataclasses.replace(PING, peers="friends_4"),
    *bans(Action.DROP),
    to(OPEN, "friends_4", TCP),
    to(OPEN, "nets_4"),
    to(OPEN, "friends_6"),
    to(INNER, "strangers_4"),
    ports((LONG, LONG), name="long"),
    opened(DISPUTED, UDP),
    opened(FREE, UDP),
    vpn=(to(INNER, "members_4"),),
    outbound=(opened(OPEN, TCP), to(OPEN, "others_4")),
    outward=Action.DROP,
)
LOOSE = desired(
    opened(DISPUTED, UDP, action=Action.DROP),
    *bans(Action.REJECT),
    ports((6900, OPEN), (LONG, 7999), name="ranges"),
    *(opened(OPEN, UDP), opened(FREE, UDP), PING),
    vpn=(opened(INNER, UDP),),
    outbound=(to(OPEN, "others_4", TCP), opened(OPEN, UDP)),
    default=Action.REJECT,
    outward=Action.REJECT,
)
FARAWAY = tuple(f"172.16.{number}.0/24" for number in range(200))
"""Enough that the kernel has some work with a set."""
FEW = {
    "friends_4": (TWO,),
    "friends_6": (TWO6,),
    "nets_4": ("10.9.0.0/28", *FARAWAY),
    "bans_4": ("10.9.0.0/29", "10.9.0.128/25", *FARAWAY),
    "bans_6": ("fd09::/120",),
    "strangers_4": ("10.9.0.70",),
    "members_4": (VPN_TWO,),
    "others_4": (TWO, VPN_TWO),
}
MANY = {
    "friends_4": (TWO, "10.9.0.7"),
    "friends_6": (TWO6, "fd09::7"),
    "nets_4": ("10.9.0.0/28", "192.168.0.0/16", *FARAWAY),
    "bans_4": ("10.9.0.0/29", "10.9.0.64/26", *FARAWAY),
    "bans_6": ("fd09::/120", "fd77::/64"),
    "strangers_4": ("10.9.0.71", "10.9.0.72"),
    "members_4": ("10.66.0.7", VPN_TWO),
    "others_4": (TWO, VPN_TWO, "10.9.0.7"),
}
"""What comes and goes is never the neighbour."""
POLICIES = [
    dataclasses.replace(policy, sets=sets) for policy in (STRICT, LOOSE) for sets in (FEW, MANY)
]


@dataclasses.dataclass(frozen=True)
class Applied:
    """From when to when, in seconds of the monotonic clock, and what was changed."""

    begun: float
    done: float
    changes: list[str]


@dataclasses.dataclass(frozen=True)
class Run:
    """All applies, and the traffic meanwhile; and some before there was a firewall."""

    applies: list[Applied]
    traffic: Traffic
    unhindered: Traffic

    def of_each(self, lane: Lane) -> list[int]:
        """How often something was sent along a lane during each apply."""
        sent = self.traffic.calls[lane].sent
        return [bisect_right(sent, it.done) - bisect_left(sent, it.begun) for it in self.applies]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """One after the other, each structure with each membership."""
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces with nftables")
    net = Net()
    try:
        scene = Scene(net, tmp_path_factory.mktemp("atomic"))
        with Traffic(scene, INBOUND, OUTBOUND) as unhindered:
            pass  # each lane is used at least once
        scene.settle(POLICIES[-1])
        scene.one.run(FORGET_SOON)
        applies = []
        with Traffic(scene, INBOUND, OUTBOUND) as traffic:
            for number in range(APPLIES):
                begun = time.monotonic()
                changes = scene.driver.apply(POLICIES[number % len(POLICIES)])
                applies.append(Applied(begun, time.monotonic(), changes))
                scene.driver.confirm()
        yield Run(applies, traffic, unhindered)
    finally:
        net.stop()


def test_every_echo_of_a_ping_flood_comes_back(run: Run) -> None:
    begun, done = run.applies[0].begun, run.applies[-1].done
    floods = run.traffic.floods
    sent = sum(it.pings.sent for it in floods)
    meanwhile = sum(it.pings.sent for it in floods if begun <= it.begun and it.done <= done)
    print(f"pings: {sent} sent, {sum(it.pings.received for it in floods)} answered")
    assert [it.pings for it in floods if it.pings.received != it.pings.sent] == []
    assert meanwhile > 10 * APPLIES


def test_a_running_transfer_arrives_whole_over_one_connection(run: Run) -> None:
    transfer = run.traffic.calls[TRANSFER]
    print(f"transfer: {len(transfer.sent)} blocks sent, {len(transfer.answered)} came back")
    assert transfer.error == ""
    assert transfer.sent == transfer.answered
    assert run.traffic.arrived[TRANSFER] == 1
    assert min(run.of_each(TRANSFER)) > 0


@pytest.mark.parametrize("lane", [*ALLOWED, *ALLOWED_OUT], ids=str)
def test_every_new_flow_that_both_policies_allow_is_answered(run: Run, lane: Lane) -> None:
    calls = run.traffic.calls[lane]
    print(f"{lane}: {len(calls.sent)} sent, {len(calls.answered)} answered")
    assert calls.lost == []
    assert run.traffic.arrived[lane] == len(calls.sent) > SEVERAL_HUNDRED
    assert min(run.of_each(lane)) > 0


@pytest.mark.parametrize("lane", [*DENIED, *DENIED_OUT], ids=str)
def test_nothing_that_both_policies_deny_ever_arrives(run: Run, lane: Lane) -> None:
    calls = run.traffic.calls[lane]
    print(f"{lane}: {len(calls.sent)} sent, {run.traffic.arrived[lane]} arrived")
    # Without a firewall they do arrive; on a busy machine a queue may overflow.
    assert run.unhindered.arrived[lane] > 0.9 * len(run.unhindered.calls[lane].sent) > 0
    assert run.traffic.arrived[lane] == 0
    assert calls.answered == []
    assert len(calls.sent) > SEVERAL_HUNDRED
    assert min(run.of_each(lane)) > 0


def test_policies_and_members_were_really_changed(run: Run) -> None:
    replaced = [it for it in run.applies if it.changes[0].startswith("the ruleset is replaced")]
    members = [it for it in run.applies if it.changes[0].startswith("set ")]
    shown = [f"{max(it.done - it.begun for it in each):.2f} s" for each in (replaced, members)]
    print(f"{len(replaced)} structures, {len(members)} memberships; slowest {', '.join(shown)}")
    assert len(replaced) == len(members) == APPLIES // 2
    sent, arrived = run.traffic.calls[IN_DISPUTE].sent, run.traffic.arrived[IN_DISPUTE]
    print(f"what one policy allows: {arrived} of {len(sent)} arrived")
    assert 0 < arrived < len(sent)
