# SPDX-License-Identifier: Apache-2.0
"""What a policy comes to in Neutron's words."""

from typing import Any

from cnsmo.model.resource import HOST, Row, View
from cnsmo.services import networks
from cnsmo.services.base import Listener
from cnsmo.services.firewall.drivers.sg_plan import OUT, GroupRule, Plan, plan
from cnsmo.services.firewall.service import FirewallService
from cnsmo.services.firewall.spec import FirewallSpec
from tests.unit.services.firewall import scenes

SSH = {GroupRule("ingress", family, "6", 22, 22) for family in ("IPv4", "IPv6")}
SERVICE = FirewallService()


def planned(view: View, **spec: Any) -> Plan:
    made = FirewallSpec.model_validate({"driver": "security_group", "failsafe": [], **spec})
    listeners = {host: networks.listeners(view, host) for host in view.hosts}
    return plan(view, "perimeter", made, listeners)


def shop(*more: Any) -> View:
    return scenes.view(scenes.deployment(more=list(more)))


def let_in(found: Plan, host: str) -> set[GroupRule]:
    """What the host's security group lets in, but for the VPN's own port."""
    rules = found.groups[found.hosts[host]]
    return {rule for rule in rules if rule.direction == "ingress" and rule.protocol != "17"}


def test_hosts_with_the_same_rules_share_a_group() -> None:
    found = planned(shop(), inbound=[{"from": "any", "to": "web", "protocol": "tcp", "ports": 80}])
    assert found.hosts["web1"] == found.hosts["web2"]
    assert found.hosts["db1"] == found.hosts["edge1"] != found.hosts["web1"]
    assert let_in(found, "db1") == set()
    assert set(OUT) <= found.groups[found.hosts["db1"]], "what hosts send is let out"


def test_peers_are_address_groups_of_the_hosts_underlay_addresses() -> None:
    found = planned(shop(), inbound=[{"from": "web", "to": "db", "protocol": "tcp", "ports": 5432}])
    (four, six) = sorted(let_in(found, "db1"))
    assert (four.family, four.protocol, four.low, four.high) == ("IPv4", "6", 5432, 5432)
    assert found.sets[four.peers] == (
        "10.1.0.21/32",
        "10.2.0.22/32",
        "198.51.100.21/32",
        "198.51.100.22/32",
    )
    assert found.sets[six.peers] == ()


def test_a_host_that_comes_changes_addresses_and_no_rule() -> None:
    rule = {"from": "web", "to": "db", "protocol": "tcp", "ports": 5432}
    before = planned(shop(), inbound=[rule])
    after = planned(shop(scenes.host("web9", "web", private=["10.1.0.29/24"])), inbound=[rule])
    assert after.groups[after.hosts["db1"]] == before.groups[before.hosts["db1"]]
    assert any("10.1.0.29/32" in items for items in after.sets.values())


def test_a_changed_port_changes_a_group_and_makes_no_other() -> None:
    one = planned(shop(), inbound=[{"to": "web", "protocol": "tcp", "ports": 80}])
    two = planned(shop(), inbound=[{"to": "web", "protocol": "tcp", "ports": 81}])
    assert one.hosts == two.hosts
    assert let_in(one, "web1") != let_in(two, "web1")


def test_networks_ranges_and_types_are_said_in_neutrons_way() -> None:
    found = planned(
        shop(),
        inbound=[
            {"from": "192.0.2.0/24", "protocol": "tcp", "ports": ["80", "8000-8010"]},
            {"protocol": "icmpv6", "icmp": "echo-request"},
        ],
    )
    assert let_in(found, "web1") == {
        GroupRule("ingress", "IPv4", "6", 80, 80, prefix="192.0.2.0/24"),
        GroupRule("ingress", "IPv4", "6", 8000, 8010, prefix="192.0.2.0/24"),
        GroupRule("ingress", "IPv6", "58", 128, -1),
    }


def test_what_other_services_listen_at_is_let_in() -> None:
    spec = FirewallSpec.model_validate({"driver": "security_group", "failsafe": []})
    listener = Listener("vpn backbone", "udp", 51820, frozenset({"web2"}))
    found = plan(shop(), "perimeter", spec, {"web1": [listener]})
    (four, _six) = sorted(rule for rule in found.groups[found.hosts["web1"]] if rule.protocol)
    assert (four.protocol, four.low, found.sets[four.peers]) == (
        "17",
        51820,
        ("10.2.0.22/32", "198.51.100.22/32"),
    )


def quarantined(rows: list[Row], *names: str) -> View:
    return scenes.view(
        Row.model_validate({**row.model_dump(), "body": {**row.body, "quarantined": True}})
        if row.kind == HOST and row.name in names
        else row
        for row in rows
    )


def test_who_is_in_quarantine_keeps_the_fail_safe_ports_alone() -> None:
    found = planned(
        quarantined(scenes.deployment(), "web1"),
        inbound=[{"protocol": "tcp", "ports": 80}],
        failsafe=[{"protocol": "tcp", "ports": 22}],
    )
    assert let_in(found, "web1") == SSH
    assert let_in(found, "web2") > SSH


def test_agents_leave_such_an_instance_alone_but_for_quarantine() -> None:
    rows = scenes.deployment(scenes.policy(driver="security_group"))
    assert SERVICE.units(scenes.view(rows), "web1") == []
    assert SERVICE.compile(scenes.view(rows), "web1") == {}
    (unit,) = SERVICE.units(quarantined(rows, "web1"), "web1")
    assert unit.driver == "nftables"


def test_it_is_told_that_the_cloud_does_not_look_into_a_vpn() -> None:
    rows = scenes.deployment(scenes.policy(driver="security_group"))
    firewall = SERVICE.firewall(scenes.view(rows), "web1")
    assert firewall is not None
    (always, *_rest) = firewall.parts
    assert [line.rule for line in always.realms["backbone"]] == ["always/inside-a-vpn"]
