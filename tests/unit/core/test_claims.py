# SPDX-License-Identifier: Apache-2.0
"""What a host says of itself gives it no other's address, and stands in nobody's way."""

import datetime
from typing import Any

import pytest
import sqlalchemy as sa

from cnsmo.core.context import Core
from cnsmo.core.health import Health
from cnsmo.model.errors import InvalidDocument, InvalidRequest
from cnsmo.model.resource import HOST
from cnsmo.services import registry
from cnsmo.state.engine import transaction, utc_now
from cnsmo.state.tables import AGENTS
from tests.unit.conftest import Caller, Operator, Told

DOCUMENT = """
deployment: shop
vpn: {backbone: {cidr: 10.66.0.0/16, driver: noop}}
firewall:
  perimeter:
    driver: noop
    inbound: [{from: edge, to: web, protocol: tcp, ports: [8080]}]
    tests: [{from: edge, to: "host:web2", protocol: tcp, port: 8080, expect: accept}]
loadbalancer:
  www:
    driver: noop
    on: edge
    listen: 80
    vip: 192.168.1.100/24
    pool: {group: web, port: 8080, via: underlay}
"""
NAMES = ("edge1", "web1", "web2")


@pytest.fixture
def hosts(operator: Operator) -> dict[str, Caller]:
    made = {}
    for number, name in enumerate(NAMES, 1):
        made[name] = operator.join(
            name,
            operator.token(groups=[name.rstrip("12")]),
            private=(f"192.168.1.{number}/24",),
            public=(f"203.0.113.{number}",),
        )
    operator.apply(document=DOCUMENT, base_revision=None)
    return made


def row(core: Core, host: str) -> dict[str, Any]:
    found = core.store.view("shop").get(HOST, host)
    assert found is not None
    return found.body


def servers(core: Core) -> list[tuple[str, str]]:
    view = core.store.view("shop")
    desired: Any = registry.service("loadbalancer").compile(view, "edge1")["www"]
    return [(it.name, it.address) for it in desired.pools[0].servers]


def silence(core: Core, host: str) -> None:
    """Nothing was heard of it for long."""
    long_ago = utc_now() - datetime.timedelta(days=1)
    with transaction(core.store.engine) as connection:
        statement = sa.update(AGENTS).where(AGENTS.c.host == host)
        connection.execute(statement.values(heartbeat_at=long_ago))
    Health(core).look("shop", listening=3600)


# whose an address is


def test_an_address_is_that_hosts_who_said_it_first(
    core: Core, operator: Operator, hosts: dict[str, Caller], told: Told
) -> None:
    told.types()
    hosts["web2"].facts(
        facts={"private": ["192.168.1.1/24", "192.168.1.3/24"], "public": ["203.0.113.2"]}
    )
    found = row(core, "web2")
    assert (found["private"], found["public"]) == (["192.168.1.3/24"], [])
    assert found["disputed"] == {"192.168.1.1": "it is edge1's", "203.0.113.2": "it is web1's"}
    assert [(event.type, event.host) for event in told.events] == [("host.disputed", "web2")]
    (shown,) = (it for it in operator.host_list(deployment="shop") if it["name"] == "web2")
    assert shown["disputed"] == found["disputed"]
    assert servers(core) == [("web1", "192.168.1.2"), ("web2", "192.168.1.3")]


def test_it_is_told_on_the_host_itself(
    core: Core, operator: Operator, hosts: dict[str, Caller]
) -> None:
    hosts["web2"].facts(facts={"private": ["192.168.1.1/24"]})
    desired = registry.service("vpn").compile(core.store.view("shop"), "web2")["backbone"]
    assert "192.168.1.1 is not believed to be this host's: it is edge1's" in desired.problems


def test_a_newcomers_word_is_not_believed_either(
    core: Core, operator: Operator, hosts: Any
) -> None:
    operator.join("web3", private=("192.168.1.2/24",))
    assert row(core, "web3")["disputed"] == {"192.168.1.2": "it is web1's"}


def test_in_other_sites_the_same_private_networks_are_others(
    core: Core, operator: Operator, hosts: dict[str, Caller]
) -> None:
    operator.join("west1", site="west", private=("192.168.1.1/24",), public=("203.0.113.1",))
    assert row(core, "west1")["private"] == ["192.168.1.1/24"]
    assert row(core, "west1")["disputed"] == {"203.0.113.1": "it is edge1's"}


@pytest.mark.parametrize("how", ["removed", "down", "in quarantine", "moved"])
def test_an_address_is_free_again_when_its_host_is(
    core: Core, operator: Operator, hosts: dict[str, Caller], how: str
) -> None:
    taken = {"private": ["192.168.1.2/24"]}
    hosts["web2"].facts(facts=taken)
    assert row(core, "web2")["private"] == []
    if how == "removed":
        operator.host_remove(deployment="shop", host="web1")
    elif how == "down":
        silence(core, "web1")
    elif how == "in quarantine":
        operator.host_quarantine(deployment="shop", host="web1", release=False)
    else:
        hosts["web1"].facts(facts={"private": ["192.168.1.9/24"]})
    hosts["web2"].facts(facts=taken)
    assert row(core, "web2")["private"] == ["192.168.1.2/24"]
    assert "disputed" not in row(core, "web2")


def test_a_token_says_where_hosts_can_be(core: Core, operator: Operator) -> None:
    token = operator.token(addresses=["10.1.0.0/24", "2001:db8::/64"])
    web1 = operator.join("web1", token, private=("10.1.0.7/24",), public=("198.51.100.7",))
    why = "its token is for 10.1.0.0/24, 2001:db8::/64"
    assert row(core, "web1")["public"] == []
    assert row(core, "web1")["disputed"] == {"198.51.100.7": why}
    web1.facts(facts={"private": ["10.1.1.7/24", "2001:db8::7/64"]})
    assert row(core, "web1")["private"] == ["2001:db8::7/64"]
    assert row(core, "web1")["disputed"] == {"10.1.1.7": why}
    operator.host_readmit(deployment="shop", host="web1", seconds=60)
    operator.join("web1", operator.token(), public=("198.51.100.7",))
    assert row(core, "web1")["public"] == ["198.51.100.7"]


def test_networks_of_a_token_are_networks(operator: Operator) -> None:
    with pytest.raises(InvalidRequest):
        operator.token(addresses=["10.1.0.7/24"])


def test_that_a_host_moved_is_an_event(
    operator: Operator, hosts: dict[str, Caller], told: Told
) -> None:
    told.types()
    hosts["web2"].facts(facts={"private": ["192.168.1.3/24"], "public": ["198.51.100.9"]})
    (event,) = told.events
    assert (event.type, event.message) == ("host.moved", "192.168.1.3/24, 198.51.100.9")
    hosts["web2"].facts(
        facts={"private": ["192.168.1.3/24"], "public": ["198.51.100.9"], "mtu": 1400}
    )
    assert told.types() == ["host.moved", "host.announced"]


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "224.0.0.1", "169.254.169.254"])
def test_an_address_that_is_no_hosts_is_refused_whole(
    core: Core, operator: Operator, hosts: dict[str, Caller], address: str
) -> None:
    before = row(core, "web2")
    with pytest.raises(InvalidRequest, match="no address by which others reach a host"):
        hosts["web2"].facts(facts={"site": "x", "public": [address]})
    assert row(core, "web2") == before


# what is in force stays changeable, whatever a host says

LIES: dict[str, dict[str, Any]] = {
    "within the VPN's network": {"private": ["10.66.3.4/24"]},
    "around it": {"private": ["10.9.9.9/8"]},
    "at a public address within it": {"public": ["10.66.0.1"]},
    "the VIP": {"private": ["192.168.1.100/24"]},
    "nothing": {},
    "elsewhere": {"site": "elsewhere", "behind_nat": True},
}


@pytest.mark.parametrize("lie", LIES)
def test_no_word_of_a_host_stands_in_the_way_of_a_change(
    operator: Operator, hosts: dict[str, Caller], lie: str
) -> None:
    hosts["web2"].facts(facts=LIES[lie])
    plan = operator.apply(document=DOCUMENT.replace("[8080]", "[8080, 8081]"), base_revision=None)
    assert [change["kind"] for change in plan["changes"]] == ["firewall"]
    told = " ".join(problem["message"] for problem in plan["known"])
    assert ("web2" in told) == (lie not in ("nothing", "elsewhere"))


def test_what_an_operator_writes_anew_is_a_mistake_all_the_same(
    operator: Operator, hosts: dict[str, Caller]
) -> None:
    hosts["web2"].facts(facts={"private": ["10.66.3.4/24"]})
    other = DOCUMENT.replace("10.66.0.0/16", "10.66.2.0/23")
    with pytest.raises(InvalidDocument, match=r"10\.66\.2\.0/23 overlaps 10\.66\.3\.0/24"):
        operator.plan(document=other)


def test_the_host_itself_is_told_that_its_network_is_the_vpns(
    core: Core, hosts: dict[str, Caller]
) -> None:
    hosts["web2"].facts(facts={"private": ["10.66.3.4/24"]})
    view = core.store.view("shop")
    vpn = registry.service("vpn")
    problem = "10.66.0.0/16 overlaps 10.66.3.0/24, this host's own network"
    assert problem in vpn.compile(view, "web2")["backbone"].problems
    assert problem not in vpn.compile(view, "web1")["backbone"].problems
