# SPDX-License-Identifier: Apache-2.0
"""A firewall in the cloud's network: what Neutron has is what is declared, and nothing else."""

from typing import Any

import pytest
from openstack.connection import Connection

from cnsmo.bus.clients import OperatorClient
from tests.eventually import eventually
from tests.functional.manage.person import Person
from tests.openstack.conftest import Fleet
from tests.openstack.kept import PATIENCE, gone, in_state, kept

POLICY = """\
deployment: shop
firewall:
  perimeter:
    driver: security_group
    inbound:
      - {name: www, from: any, to: web, protocol: tcp, ports: [80, 8000-8010]}
      - {name: db, from: web, to: db, protocol: tcp, ports: 5432}
      - {name: ping, from: 10.5.0.0/24, protocol: icmp, icmp: echo-request}
"""
EMPTY = "deployment: shop\n"


@pytest.fixture
def three(fleet: Fleet) -> Fleet:
    for name, group in (("web1", "web"), ("web2", "web"), ("db1", "db")):
        fleet.add(name, group)
    return fleet


def applied(person: Person, operator: OperatorClient, text: str = POLICY) -> None:
    person.does("apply", person.writes(text))
    in_state(operator, "firewall", "ready")


def rules(cloud: Connection, fleet: Fleet, name: str) -> set[tuple[Any, ...]]:
    """What is let in at a host: protocol, ports, and from where, in addresses."""
    found = set()
    for ident in fleet.port(name).security_group_ids:
        for rule in cloud.network.security_group_rules(security_group_id=ident):
            if rule.direction == "ingress":
                ports = (rule.port_range_min, rule.port_range_max)
                found.add((rule.ether_type, rule.protocol, *ports, sources(cloud, rule)))
    return found


def sources(cloud: Connection, rule: Any) -> str:
    if not rule.remote_address_group_id:
        return str(rule.remote_ip_prefix)
    group = cloud.network.get_address_group(rule.remote_address_group_id)
    return ",".join(sorted(group.addresses))


def test_what_is_declared_is_let_in_and_nothing_else(
    person: Person, operator: OperatorClient, cloud: Connection, three: Fleet
) -> None:
    applied(person, operator)
    ssh = {(family, "tcp", 22, 22, "None") for family in ("IPv4", "IPv6")}
    ping = {("IPv4", "icmp", 8, None, "10.5.0.0/24")}
    www = {
        (family, "tcp", low, high, "None")
        for family in ("IPv4", "IPv6")
        for low, high in ((80, 80), (8000, 8010))
    }
    web = ",".join(sorted(f"{three.address(name)}/32" for name in ("web1", "web2")))
    db = {("IPv4", "tcp", 5432, 5432, web), ("IPv6", "tcp", 5432, 5432, "")}
    assert rules(cloud, three, "web1") == rules(cloud, three, "web2") == ssh | ping | www
    assert rules(cloud, three, "db1") == ssh | ping | db


def test_a_host_that_comes_changes_addresses_alone(
    person: Person, operator: OperatorClient, cloud: Connection, three: Fleet
) -> None:
    applied(person, operator)
    (group,) = three.port("db1").security_group_ids
    before = {rule.id for rule in cloud.network.security_group_rules(security_group_id=group)}
    three.add("web3", "web")
    address = f"{three.address('web3')}/32"
    eventually(lambda: any(address in one[4] for one in rules(cloud, three, "db1")), PATIENCE)
    after = {rule.id for rule in cloud.network.security_group_rules(security_group_id=group)}
    assert after == before
    eventually(
        lambda: three.port("web3").security_group_ids == three.port("web1").security_group_ids,
        PATIENCE,
    )


def test_what_somebody_else_changes_is_put_right(
    person: Person, operator: OperatorClient, cloud: Connection, three: Fleet
) -> None:
    applied(person, operator)
    wanted = rules(cloud, three, "db1")
    (group,) = three.port("db1").security_group_ids
    cloud.network.create_security_group_rule(
        security_group_id=group, direction="ingress", ether_type="IPv4", protocol="udp"
    )
    cloud.network.update_port(three.port("web1"), security_group_ids=[])
    eventually(lambda: rules(cloud, three, "db1") == wanted, PATIENCE)
    eventually(lambda: three.port("web1").security_group_ids, PATIENCE)
    assert rules(cloud, three, "web1") == rules(cloud, three, "web2")


def test_groups_of_others_stay_and_are_told(
    person: Person, operator: OperatorClient, cloud: Connection, three: Fleet
) -> None:
    other = cloud.network.create_security_group(name="somebody-elses")
    cloud.network.create_security_group_rule(
        security_group_id=other.id, direction="ingress", ether_type="IPv4"
    )
    cloud.network.update_port(three.port("web1"), security_group_ids=[other.id])
    person.does("apply", person.writes(POLICY))
    found = in_state(operator, "firewall", "degraded")
    assert found.reason == "the security group somebody-elses lets in more on web1"
    assert other.id in three.port("web1").security_group_ids
    cloud.network.update_port(three.port("web1"), security_group_ids=[])
    in_state(operator, "firewall", "ready")
    cloud.network.delete_security_group(other)


def test_what_is_not_declared_any_more_leaves_nothing(
    person: Person, operator: OperatorClient, cloud: Connection, three: Fleet
) -> None:
    applied(person, operator)
    person.does("apply", person.writes(EMPTY))
    gone(operator, "firewall")
    assert [three.port(name).security_group_ids for name in three.servers] == [[], [], []]
    assert [one.name for one in cloud.network.security_groups() if "cnsmo" in one.name] == []
    assert list(cloud.network.address_groups()) == []


def test_a_used_up_quota_is_told_and_what_was_there_works(
    person: Person,
    operator: OperatorClient,
    cloud: Connection,
    admin: Connection,
    three: Fleet,
) -> None:
    applied(person, operator)
    before = rules(cloud, three, "web1")
    project = cloud.current_project_id
    usual = admin.network.get_quota(project).security_group_rules
    admin.network.update_quota(project, security_group_rules=1)
    more = POLICY + "      - {name: more, from: any, to: web, protocol: tcp, ports: 443}\n"
    person.does("apply", person.writes(more))
    found = in_state(operator, "firewall", "error")
    assert found.reason.startswith("Neutron: the cloud refuses: Quota exceeded")
    assert before <= rules(cloud, three, "web1")
    admin.network.update_quota(project, security_group_rules=usual)
    in_state(operator, "firewall", "ready")
    assert ("IPv4", "tcp", 443, 443, "None") in rules(cloud, three, "web1")


def test_a_deployment_with_things_in_the_cloud_is_not_forgotten(
    person: Person, operator: OperatorClient, fleet: Fleet
) -> None:
    person.does("apply", person.writes(POLICY.replace("to: web, ", "").replace("to: db, ", "")
                                       .replace("from: web", "from: any")))  # fmt: skip
    assert kept(operator, "firewall") is not None
    told = person.fails(5, "deployment delete shop")
    assert "still has things in the cloud (firewall perimeter)" in told
    person.does("service delete firewall perimeter")
    gone(operator, "firewall")
