# SPDX-License-Identifier: Apache-2.0
"""What conntrack(8) lists, and which of it may go on."""

import json

import pytest

from cnsmo.services.base import Completed
from cnsmo.services.firewall.desired import Action, Direction, FirewallDesired, Kind, Line, Part
from cnsmo.services.firewall.drivers import nft_forget
from cnsmo.services.firewall.drivers.nft_flows import concerns, end_flows, permission, read_flow
from cnsmo.services.firewall.drivers.nft_render import Ways

LISTED = {
    "web": "ipv4     2 tcp      6 431999 ESTABLISHED src=10.9.0.2 dst=10.9.0.1 sport=50001 "
    "dport=80 src=10.9.0.1 dst=10.9.0.2 sport=80 dport=50001 [ASSURED] mark=0 use=1",
    "ssh": "ipv4     2 tcp      6 431999 ESTABLISHED src=10.9.0.2 dst=10.9.0.1 sport=50002 "
    "dport=22 src=10.9.0.1 dst=10.9.0.2 sport=22 dport=50002 [ASSURED] mark=0 use=1",
    "core": "ipv4     2 tcp      6 431999 ESTABLISHED src=10.9.0.1 dst=10.9.0.5 sport=50003 "
    "dport=5671 src=10.9.0.5 dst=10.9.0.1 sport=5671 dport=50003 [ASSURED] mark=0 use=1",
    "udp": "ipv6     10 udp      17 29 src=fd09::1 dst=fd09::2 sport=52647 dport=99 [UNREPLIED] "
    "src=fd09::2 dst=fd09::1 sport=99 dport=52647 mark=0 use=1",
    "ping": "ipv4     2 icmp     1 29 src=10.9.0.2 dst=10.9.0.1 type=8 code=0 id=23181 "
    "src=10.9.0.1 dst=10.9.0.2 type=0 code=0 id=23181 mark=0 use=1",
    "passing": "ipv4     2 tcp      6 9 ESTABLISHED src=172.17.0.2 dst=8.8.8.8 sport=1 dport=2 "
    "src=8.8.8.8 dst=172.17.0.2 sport=2 dport=1 mark=0 use=1",
    "translated": "ipv4     2 tcp      6 9 ESTABLISHED src=10.9.0.2 dst=10.9.0.1 sport=1 "
    "dport=8080 src=172.17.0.2 dst=10.9.0.2 sport=80 dport=1 mark=0 use=1",
    "loopback": "ipv4     2 udp      17 29 src=127.0.0.1 dst=127.0.0.1 sport=1 dport=9 "
    "src=127.0.0.1 dst=127.0.0.1 sport=9 dport=1 mark=0 use=1",
}
LINKS = [
    {"ifname": "lo", "addr_info": [{"local": "127.0.0.1"}]},
    {"ifname": "eth0", "addr_info": [{"local": "10.9.0.1"}, {"local": "fd09::1"}]},
]
DESIRED = FirewallDesired(
    "nftables",
    parts=(
        Part(
            Kind.ENFORCE, Direction.INBOUND,
            {"": (Line("p", Action.ACCEPT, protocol=6, ports=((22, 22),)),)}, Action.DROP,
        ),
        Part(Kind.ENFORCE, Direction.OUTBOUND, {"": ()}, Action.DROP),
    ),
)  # fmt: skip


class Pretended:
    """A system with these flows and addresses."""

    def __init__(self, present=True):
        self.present = present
        self.forgotten: list[str] = []

    def has(self, _program):
        return self.present

    def run(self, *args, stdin=None, **_options):
        if args[0] == "ip":
            return Completed(args, 0, json.dumps(LINKS), "")
        if args[-1] == nft_forget.__file__:
            self.forgotten += (stdin or "").splitlines()
        return Completed(args, 0, "\n".join([*LISTED.values(), "garbage", ""]), "")


def test_only_this_hosts_flows_that_are_not_allowed_are_ended():
    system = Pretended()
    ways = Ways({4: (("10.9.0.5", 5671),)})
    assert end_flows(system, permission(system, DESIRED, ways)) == 3
    assert system.forgotten == [
        "6 10.9.0.2 10.9.0.1 sport=50001 dport=80",
        "17 fd09::1 fd09::2 sport=52647 dport=99",
        "1 10.9.0.2 10.9.0.1 type=8 code=0 id=23181",
    ]


class Watched(tuple):
    """Counts how often it is gone through."""

    times = 0

    def __iter__(self):
        Watched.times += 1
        return super().__iter__()


def test_a_group_is_read_once_however_many_flows_are_judged():
    line = Line("p", Action.ACCEPT, 4, "all_4", protocol=6)
    part = Part(Kind.ENFORCE, Direction.INBOUND, {"": (line,)}, Action.DROP)
    members = Watched(("10.9.0.3", "10.9.0.128/25"))
    allowed = permission(
        Pretended(), FirewallDesired("nftables", (part,), sets={"all_4": members}), Ways()
    )
    known = {
        n: allowed(read_flow(LISTED["ssh"].replace("10.9.0.2", f"10.9.0.{n}"))) for n in range(256)
    }
    assert [n for n, right in known.items() if right] == [1, 3, *range(128, 256)]
    assert Watched.times <= 2


def test_without_conntrack_flows_end_by_themselves():
    assert end_flows(Pretended(present=False), lambda _flow: False) == 0


def test_translated_flows_are_nobodys_here():
    assert read_flow(LISTED["translated"]) is None
    assert read_flow("conntrack v1.4.7: 3 flow entries have been shown.") is None


@pytest.mark.parametrize(
    ("left", "concerned"),
    [
        (None, True),
        ({"10.9.0.2"}, True),
        ({"10.9.0.0/30"}, True),
        ({"10.9.0.3", "fd00::/8"}, False),
    ],
)
def test_after_somebody_left_only_his_flows_are_looked_at(left, concerned):
    flow = read_flow(LISTED["web"])
    assert flow
    assert concerns(flow, left) is concerned
