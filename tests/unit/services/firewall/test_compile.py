# SPDX-License-Identifier: Apache-2.0
"""What the firewall of a host comes to, in deployments drawn by hand."""

import ipaddress
from typing import Any

import pytest

from cnsmo.model.resource import HOST, Row
from cnsmo.services.firewall.desired import UNDERLAY, Action, Direction, Kind, Line, Part
from cnsmo.services.firewall.judge import Packet, judge
from tests.unit.services.firewall.scenes import (
    FIREWALL,
    compiled,
    deployment,
    host,
    policy,
    state,
    view,
)

VPN = "backbone"
TCP, UDP, ICMP = 6, 17, 1


def part(rows: list[Row], name: str, direction: Direction, kind: Kind = Kind.ENFORCE) -> Part:
    (found,) = [
        one for one in compiled(rows, name).parts if one.kind is kind and one.direction is direction
    ]
    return found


def inbound(rows: list[Row], name: str, realm: str) -> tuple[Line, ...]:
    return part(rows, name, Direction.INBOUND).realms[realm]


def verdict(
    rows: list[Row], name: str, peer: str, port: int, realm: str = VPN, **more: Any
) -> tuple[Action, str]:
    packet = Packet(
        realm=realm,
        peer=ipaddress.ip_address(peer),
        local=ipaddress.ip_address(more.pop("local", "10.66.0.4")),
        protocol=more.pop("protocol", TCP),
        port=port,
        **more,
    )
    found = judge(compiled(rows, name), Direction.INBOUND, packet)
    return found.action, found.rule


RULES = {
    "inbound": [
        {"to": "edge", "protocol": "tcp", "ports": 80},
        {"from": "edge", "to": "web", "protocol": "tcp", "ports": 8080, "name": "proxy"},
        {"from": "web", "to": "db", "protocol": "tcp", "ports": 5432, "via": VPN},
    ]
}


def test_a_rule_is_there_only_where_it_holds() -> None:
    rows = deployment(policy(**RULES))
    assert [line.rule for line in inbound(rows, "edge1", VPN)] == ["perimeter/inbound/1"]
    assert {line.rule for line in inbound(rows, "web1", VPN)} == {"perimeter/inbound/proxy"}
    assert {line.rule for line in inbound(rows, "db1", VPN)} == {"perimeter/inbound/3"}
    assert inbound(rows, "db1", UNDERLAY) == ()


def test_a_group_is_its_members_vpn_addresses_there_and_their_own_elsewhere() -> None:
    rows = deployment(policy(**RULES))
    desired = compiled(rows, "web1")
    assert desired.sets["m_edge_v_backbone_4"] == ("10.66.0.2",)
    assert desired.sets["m_edge_u_4"] == ("10.1.0.11", "198.51.100.11")
    assert desired.interfaces == {VPN: "cn-backbone"}
    assert desired.pools == ("10.66.0.0/16",)


def test_a_member_that_comes_or_goes_changes_elements_alone() -> None:
    before = compiled(deployment(policy(**RULES)), "web1")
    more = [*deployment(policy(**RULES)), host("edge2", "edge", private=["10.1.0.12/24"])]
    after = compiled(more, "web1")
    assert after.parts == before.parts
    assert after.sets["m_edge_u_4"] == ("10.1.0.11", "10.1.0.12", "198.51.100.11")
    gone = compiled([*more, state("edge2", "down")], "web1")
    assert gone == before


def test_what_cannot_match_in_a_realm_makes_no_line() -> None:
    rules = [{"from": f"vpn:{VPN}", "protocol": "tcp", "ports": 1}, {"via": "underlay"}]
    rows = deployment(policy(inbound=rules))
    assert [line.rule for line in inbound(rows, "web1", VPN)] == ["perimeter/inbound/1"]
    assert [line.rule for line in inbound(rows, "web1", UNDERLAY)] == ["perimeter/inbound/2"]


def test_networks_of_both_versions_make_a_line_each() -> None:
    networks = ["192.0.2.0/24", "2001:db8::/32", "192.0.2.7", "2001:db9::1"]
    rows = deployment(policy(inbound=[{"from": networks}]))
    lines = inbound(rows, "web1", UNDERLAY)
    assert [line.version for line in lines] == [4, 6]
    assert (lines[0].network, lines[0].peers) == ("192.0.2.0/24", None)
    sets = compiled(rows, "web1").sets
    assert sets[lines[1].peers or ""] == ("2001:db8::/32", "2001:db9::1")


def test_a_network_alone_needs_no_set_but_beside_a_group_it_does() -> None:
    rules = [{"from": "192.0.2.0/24"}, {"from": ["192.0.2.0/24", "web"]}]
    rows = deployment(policy(inbound=rules))
    alone, beside = (line for line in inbound(rows, "db1", UNDERLAY) if line.version == 4)
    assert (alone.network, alone.peers) == ("192.0.2.0/24", None)
    assert beside.network is None
    assert "192.0.2.0/24" in compiled(rows, "db1").sets[beside.peers or ""]
    assert verdict(rows, "db1", "192.0.2.9", 1, UNDERLAY) == (Action.ACCEPT, "perimeter/inbound/1")
    assert verdict(rows, "db1", "192.0.3.9", 1, UNDERLAY)[0] is Action.DROP


def test_instances_come_by_priority_and_name_and_the_strictest_default_holds() -> None:
    late = policy("a", inbound=[{"name": "late"}], default={"inbound": "accept"})
    early = policy("b", inbound=[{"name": "early"}], priority=1, default={"inbound": "reject"})
    found = part(deployment(late, early), "web1", Direction.INBOUND)
    rules = [line.rule for line in found.realms[UNDERLAY]]
    assert rules == ["b/inbound/early", "a/inbound/late"]
    assert found.default is Action.REJECT


def test_an_audited_instance_is_a_part_of_its_own_and_decides_nothing() -> None:
    rows = deployment(
        policy("trial", mode="audit", inbound=[{"protocol": "tcp", "action": "drop"}]),
        policy("perimeter", inbound=[{"protocol": "tcp", "ports": 80}]),
    )
    packet = Packet(
        UNDERLAY, *(ipaddress.ip_address(text) for text in ("192.0.2.1", "10.1.0.21")), TCP, 80
    )
    found = judge(compiled(rows, "web1"), Direction.INBOUND, packet)
    assert (found.action, found.rule) == (Action.ACCEPT, "perimeter/inbound/1")
    assert found.audits == ("trial/inbound/1",)


def test_where_all_is_audited_not_even_a_spoofed_packet_is_dropped() -> None:
    rows = deployment(policy(mode="audit", **RULES))
    assert compiled(rows, "web1").pools == ()
    found = verdict(rows, "web1", "10.66.0.2", 8080, UNDERLAY)
    assert found == (Action.ACCEPT, "no instance is enforced")


@pytest.mark.parametrize(
    ("peer", "port", "realm", "expected"),
    [
        ("10.66.0.2", 8080, VPN, (Action.ACCEPT, "perimeter/inbound/proxy")),
        ("10.66.0.3", 8080, VPN, (Action.DROP, "the default of inbound")),
        ("10.1.0.11", 8080, UNDERLAY, (Action.ACCEPT, "perimeter/inbound/proxy")),
        ("10.66.0.2", 8080, UNDERLAY, (Action.DROP, "always/anti-spoofing")),
        ("192.0.2.9", 22, UNDERLAY, (Action.ACCEPT, "always/failsafe")),
        ("10.66.0.3", 22, VPN, (Action.ACCEPT, "always/failsafe")),
        ("192.0.2.9", 8080, UNDERLAY, (Action.DROP, "the default of inbound")),
    ],
)
def test_verdicts(peer: str, port: int, realm: str, expected: tuple[Action, str]) -> None:
    assert verdict(deployment(policy(**RULES)), "web1", peer, port, realm) == expected


@pytest.mark.parametrize("direction", Direction)
def test_the_vpns_own_port_is_open_between_its_members_whatever_the_rules_say(
    direction: Direction,
) -> None:
    closed = {"inbound": "drop", "outbound": "drop"}
    rows = deployment(policy(default=closed), vpn={"driver": "wireguard"})
    desired = compiled(rows, "web1")
    ends = {"10.2.0.31": Action.ACCEPT, "198.51.100.99": Action.DROP}
    for peer, expected in ends.items():
        addresses = (ipaddress.ip_address(text) for text in (peer, "10.1.0.21"))
        packet = Packet(UNDERLAY, *addresses, UDP, 51820)
        assert judge(desired, direction, packet).action is expected


def test_a_member_behind_a_nat_may_call_from_anywhere() -> None:
    hidden = host("app1", "web", private=["192.168.7.2/24"], behind_nat=True)
    rows = deployment(policy(), vpn={"driver": "wireguard"}, more=[hidden])
    always = part(rows, "web1", Direction.INBOUND, Kind.ALWAYS).realms[UNDERLAY]
    (line,) = [line for line in always if line.rule == "always/vpn-backbone"]
    assert (line.peers, line.ports) == (None, ((51820, 51820),))


def test_hosts_that_an_instance_does_not_hold_for_have_no_firewall() -> None:
    rows = deployment(policy(hosts="edge"))
    assert FIREWALL.compile(view(rows), "web1") == {}
    assert FIREWALL.units(view(rows), "web1") == []
    assert [unit.name for unit in FIREWALL.units(view(rows), "edge1")] == ["host"]


def test_the_same_rows_in_any_order_give_the_same() -> None:
    rows = deployment(policy(**RULES), policy("other", priority=3, inbound=[{"from": "db"}]))
    assert compiled(rows, "db1") == compiled(list(reversed(rows)), "db1")


# quarantine


def test_a_host_in_quarantine_keeps_its_fail_safe_ports_and_no_rule() -> None:
    rule = {"from": "any", "protocol": "tcp", "ports": 5432}
    rows = deployment(policy(inbound=[rule], failsafe=[{"ports": 2222}], mode="audit"))
    shut = [quarantined(row) if row.name == "db1" and row.kind == HOST else row for row in rows]
    stranger = "198.51.100.99"
    for peer in (stranger, "198.51.100.21"):
        assert verdict(shut, "db1", peer, 5432, UNDERLAY)[0] is Action.DROP
        assert verdict(shut, "db1", peer, 2222, UNDERLAY)[0] is Action.ACCEPT
    outbound = part(shut, "db1", Direction.OUTBOUND)
    assert outbound.default is Action.DROP
    assert not any(outbound.realms.values())
    assert compiled(shut, "db1").cut


def test_a_host_in_quarantine_has_a_firewall_where_none_is_declared() -> None:
    rows = [
        quarantined(row) if row.name == "db1" and row.kind == HOST else row for row in deployment()
    ]
    assert [unit.name for unit in FIREWALL.units(view(rows), "db1")] == ["host"]
    assert verdict(rows, "db1", "198.51.100.99", 22, UNDERLAY)[0] is Action.ACCEPT
    assert verdict(rows, "db1", "198.51.100.99", 80, UNDERLAY)[0] is Action.DROP
    assert not FIREWALL.units(view(rows), "web1")


def quarantined(row: Row) -> Row:
    return Row(**{**row.model_dump(), "body": {**row.body, "quarantined": True}})
