# SPDX-License-Identifier: Apache-2.0
"""A load balancer of the cloud's. Octavia's API, worker and database are real; its amphorae are

none: what is proven is what Octavia is asked for, not that packets flow.
"""

from typing import Any

import pytest
from openstack.connection import Connection

from cnsmo.bus.clients import OperatorClient
from tests.eventually import eventually
from tests.functional.manage.person import Person
from tests.openstack.conftest import Fleet
from tests.openstack.kept import PATIENCE, gone, in_state

BALANCER = """\
deployment: shop
loadbalancer:
  www:
    driver: octavia
    on: web
    listen: 80
    pool: {group: web, port: 8080, via: underlay}
    algorithm: leastconn
    check: {http: /healthz, interval: 5s, timeout: 2s}
    allow: [192.0.2.0/24]
"""


@pytest.fixture
def pair(fleet: Fleet) -> Fleet:
    for name in ("web1", "web2"):
        fleet.add(name, "web")
    return fleet


def works(person: Person, operator: OperatorClient, text: str = BALANCER) -> None:
    person.does("apply", person.writes(text))
    in_state(operator, "loadbalancer", "ready", "degraded")


def only(found: Any) -> Any:
    (one,) = list(found)
    return one


def members(cloud: Connection) -> dict[str, tuple[str, int, int]]:
    pool = only(cloud.load_balancer.pools())
    return {
        one.name: (one.address, one.protocol_port, one.weight)
        for one in cloud.load_balancer.members(pool)
    }


def test_octavia_has_what_is_declared(
    person: Person, operator: OperatorClient, cloud: Connection, pair: Fleet
) -> None:
    works(person, operator)
    api = cloud.load_balancer
    balancer, listener = only(api.load_balancers()), only(api.listeners())
    assert balancer.vip_subnet_id == pair.lan.subnet
    assert (listener.protocol, listener.protocol_port) == ("HTTP", 80)
    assert listener.allowed_cidrs == ["192.0.2.0/24"]
    assert listener.timeout_client_data == 60_000
    assert only(api.pools()).lb_algorithm == "LEAST_CONNECTIONS"
    check = only(api.health_monitors())
    assert (check.type, check.url_path, check.delay, check.timeout) == ("HTTP", "/healthz", 5, 2)
    assert members(cloud) == {name: (pair.address(name), 8080, 1) for name in ("web1", "web2")}


def test_members_follow_the_group_and_what_operators_say(
    person: Person, operator: OperatorClient, cloud: Connection, pair: Fleet
) -> None:
    works(person, operator)
    pair.add("web3", "web")
    eventually(lambda: members(cloud).keys() == {"web1", "web2", "web3"}, PATIENCE)
    person.does("loadbalancer drain www web1")
    eventually(lambda: members(cloud)["web1"][2] == 0, PATIENCE)
    operator.host_remove("shop", "web2")
    eventually(lambda: members(cloud).keys() == {"web1", "web3"}, PATIENCE)


def test_a_changed_document_changes_what_is_there(
    person: Person, operator: OperatorClient, cloud: Connection, pair: Fleet
) -> None:
    works(person, operator)
    before = only(cloud.load_balancer.load_balancers()).id
    text = BALANCER.replace("listen: 80", "listen: [80, 81]").replace("leastconn", "source")
    works(person, operator, text.replace("/healthz, interval: 5s", "/ready, interval: 10s"))
    api = cloud.load_balancer
    assert only(api.load_balancers()).id == before
    assert {one.protocol_port for one in api.listeners()} == {80, 81}
    assert only(api.pools()).lb_algorithm == "SOURCE_IP"
    assert (only(api.health_monitors()).url_path, only(api.health_monitors()).delay) == (
        "/ready",
        10,
    )


def test_another_mode_makes_it_anew_behind_the_same_address(
    person: Person, operator: OperatorClient, cloud: Connection, pair: Fleet
) -> None:
    works(person, operator)
    before = only(cloud.load_balancer.load_balancers()).vip_address
    works(person, operator, BALANCER.replace("listen: 80", "listen: 80\n    mode: tcp"))
    assert only(cloud.load_balancer.load_balancers()).vip_address == before
    assert only(cloud.load_balancer.listeners()).protocol == "TCP"
    assert only(cloud.load_balancer.pools()).protocol == "TCP"


def test_what_somebody_else_changes_is_put_right(
    person: Person, operator: OperatorClient, cloud: Connection, pair: Fleet
) -> None:
    works(person, operator)
    pool = only(cloud.load_balancer.pools())
    one = next(iter(cloud.load_balancer.members(pool)))
    cloud.load_balancer.delete_member(one, pool)
    eventually(lambda: len(members(cloud)) == 2, PATIENCE)


def test_what_is_not_declared_any_more_leaves_nothing(
    person: Person, operator: OperatorClient, cloud: Connection, pair: Fleet
) -> None:
    works(person, operator)
    person.does("apply", person.writes("deployment: shop\n"))
    gone(operator, "loadbalancer")
    assert list(cloud.load_balancer.load_balancers()) == []


def test_a_used_up_quota_is_told(
    person: Person, operator: OperatorClient, cloud: Connection, admin: Connection, pair: Fleet
) -> None:
    project = cloud.current_project_id
    admin.load_balancer.update_quota(project, load_balancers=0)
    person.does("apply", person.writes(BALANCER))
    found = in_state(operator, "loadbalancer", "error")
    assert found.reason.startswith("Octavia: the cloud refuses: Quota has been met")
    assert "error: Octavia" in person.does("service list -f json").out
    admin.load_balancer.update_quota(project, load_balancers=-1)
    in_state(operator, "loadbalancer", "ready", "degraded")
