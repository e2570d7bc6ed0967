# SPDX-License-Identifier: Apache-2.0
"""cnsmo-manage loadbalancer, as a person sees it; the carrier says what a test wants."""

import json

import pytest

from cnsmo.model.lifecycle import State
from cnsmo.model.messages import TokenRequest
from tests.functional.manage.person import Puppet

DOCUMENT = """\
deployment: shop
vpn:
  backbone: {cidr: 10.66.0.0/16, driver: noop}
loadbalancer:
  www:
    {on: edge, listen: 80, driver: noop, vip: 192.168.1.100/24, pool: {group: web, port: 8080}}
  api:
    {on: edge, listen: '[fd00::1]:81', driver: noop, pool: {hosts: web1, port: 9000}}
"""
HOSTS = {"edge1": "edge", "web1": "web", "web2": "web"}
SEEN = {
    "servers": {
        "default": {
            "web1": {"state": "up", "why": "L4OK", "weight": 1, "sessions": 3, "total": 70,
                     "rate": 5, "errors": 0},
            "web2": {"state": "down", "why": "L4CON in 1 ms", "weight": 1, "sessions": 0},
            "web3": {"state": "leaving", "sessions": 2},
        }
    },
    "frontends": {"*:80": {"state": "full", "sessions": 5, "total": 80, "rate": 5, "errors": 2}},
    "vip": True,
}  # fmt: skip


@pytest.fixture
def shop(core, operator, person) -> dict[str, Puppet]:
    """A carrier and two servers, all in the VPN."""
    operator.deployment_create("shop")
    made = {}
    for number, (name, group) in enumerate(HOSTS.items(), 1):
        token = str(operator.token_create("shop", TokenRequest(groups=[group])).token)
        facts = {"private": (f"192.168.1.{number}/24",)}
        made[name] = Puppet(core.core, name, token, "loadbalancer", **facts)
    person.writes(DOCUMENT, "shop.yaml")
    person.does("apply shop.yaml")
    for puppet in made.values():
        puppet.announces()
    made["edge1"].reports(service="loadbalancer", www=SEEN)
    return made


def test_each_carrier_has_a_line(person, shop):
    said = json.loads(person.does("loadbalancer show --patience 0 -f json").out)
    assert [(line["name"], line["carrier"], line["listen"]) for line in said] == [
        ("api", "edge1", "[fd00::1]:81"),
        ("www", "edge1", "*:80"),
    ]
    www = said[1]
    assert (www["servers_up"], www["sessions"]) == ("1/2", 5)
    assert www["vip"] == "192.168.1.100 (holds it)"


def shown(person, name):
    """The lines of one balancer, as a program reads them."""
    return json.loads(person.does(f"loadbalancer show {name} --patience 0 --format json").out)


def test_each_server_has_a_line_also_one_that_leaves(person, shop):
    said = [line for line in shown(person, "www") if line["server"]]
    assert [(line["server"], line["address"], line["state"], line["why"]) for line in said] == [
        ("web1", "10.66.0.2:8080", "up", "L4OK"),
        ("web2", "10.66.0.3:8080", "down", "L4CON in 1 ms"),
        ("web3", None, "leaving", None),
    ]
    assert said[0] == {
        "carrier": "edge1", "pool": "default", "server": "web1", "address": "10.66.0.2:8080",
        "state": "up", "why": "L4OK", "weight": 1, "sessions": 3, "total": 70, "rate": 5,
        "errors": 0,
    }  # fmt: skip


def test_each_place_where_a_carrier_listens_has_a_line_with_the_vip(person, shop):
    (front,) = [line for line in shown(person, "www") if not line["server"]]
    assert front == {
        "carrier": "edge1", "pool": None, "server": None, "address": "*:80", "state": "full",
        "why": "VIP 192.168.1.100 (holds it)", "weight": None, "sessions": 5, "total": 80,
        "rate": 5, "errors": 2,
    }  # fmt: skip
    shop["edge1"].reports(service="loadbalancer", www={**SEEN, "vip": False})
    assert shown(person, "www")[0]["why"] == "VIP 192.168.1.100"
    (front, _server) = shown(person, "api")  # of which its carrier has told nothing
    assert (front["address"], front["state"], front["why"]) == ("[fd00::1]:81", "unknown", None)


def test_a_person_reads_why(person, shop):
    shop["edge1"].reports(State.DEGRADED, "www: no server is up", service="loadbalancer", www=SEEN)
    for words in ("show", "show www"):
        said = person.does(f"loadbalancer {words} --patience 0").out
        assert said.count("edge1: www: no server is up") == 1
        assert "Reason" not in said


def test_a_drained_host_is_so_in_all_balancers_until_it_is_ready(person, shop):
    assert "dry run" in person.does("loadbalancer drain web1 --dry-run").out.lower()
    said = person.does("loadbalancer drain web1").out.splitlines()
    assert [line.partition(" in revision")[0] for line in said] == [
        "Drain web1 in api",
        "Drain web1 in www",
    ]
    person.does("loadbalancer weight web1 7 --name www")
    rows = json.loads(person.does("service show loadbalancer www -f json").out)
    assert rows["adjustments"] == {"web1": {"drain": True, "weight": 7}}
    person.does("loadbalancer ready web1 --name www")
    person.does("loadbalancer weight web1 --name www")
    rows = json.loads(person.does("service show loadbalancer www -f json").out)
    assert rows["adjustments"] == {}


def test_who_left_a_pool_is_made_ready_all_the_same(person, shop):
    """Else it would be drained on the day when it returns."""
    person.does("loadbalancer drain web1 --name api")
    person.writes(DOCUMENT.replace("hosts: web1", "hosts: web2"), "shop.yaml")
    person.does("apply shop.yaml")
    said = person.fails(4, "loadbalancer drain web1 --name api")
    assert "web1 does not serve in api" in said
    assert "Let web1 serve again in api" in person.does("loadbalancer ready web1").out
    rows = json.loads(person.does("service show loadbalancer api -f json").out)
    assert rows["adjustments"] == {}


@pytest.mark.parametrize(
    ("code", "words", "said"),
    [
        (4, "show wwww", "no load balancer 'wwww' is declared; did you mean 'www'?"),
        (4, "drain wbe1", "there is no host 'wbe1'; did you mean 'web1'?"),
        (4, "drain edge1", "edge1 does not serve in any load balancer"),
        (4, "drain web2 --name api", "web2 does not serve in api"),
        (2, "weight web1 257", "257 is no weight: write 0 to 256"),
    ],
)
def test_words_that_mean_nothing(person, shop, code, words, said):
    assert said in person.fails(code, f"loadbalancer {words}")
