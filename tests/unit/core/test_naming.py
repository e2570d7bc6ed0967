# SPDX-License-Identifier: Apache-2.0
"""No newcomer has a name by which policies would take it for somebody else."""

from typing import Any

import pytest

from cnsmo.core.context import Core
from cnsmo.model.errors import Conflict, InvalidDocument
from cnsmo.model.resource import HOST
from cnsmo.services import registry
from tests.unit.conftest import Operator, Told

DOCUMENT = """
deployment: shop
vpn:
  backbone:
    cidr: 10.66.0.0/16
    driver: noop
    members: [all]
    routes: [{subnet: 10.99.0.0/24, via: gw1}]
firewall:
  perimeter:
    driver: noop
    inbound:
      - {from: edge, to: group:web, protocol: tcp, ports: [8080]}
      - {from: "host:bastion", to: all, protocol: tcp, ports: [22]}
      - {from: word, to: all, protocol: tcp, ports: [23]}
loadbalancer:
  www:
    driver: noop
    on: edge
    listen: 80
    pool: {hosts: [web1, web2], port: 8080, weights: {web3: 2}, backup: [web2]}
"""
NAMES = ("edge1", "web1", "web2", "web3", "bastion", "gw1", "word")
GROUPS = {"edge1": "edge"}


@pytest.fixture
def declared(operator: Operator) -> None:
    for name in NAMES:
        operator.join(name, operator.token(groups=[GROUPS.get(name, "web")]))
    operator.apply(document=DOCUMENT, base_revision=None)


def revoke_all(operator: Operator) -> None:
    for token in operator.token_list(deployment="shop"):
        operator.token_revoke(deployment="shop", ident=token["id"])


def refused(operator: Operator, name: str, match: str, **request: Any) -> None:
    before = operator.core.store.deployment("shop").revision
    with pytest.raises(Conflict, match=match):
        operator.join(name, operator.token(**request))
    assert operator.core.store.view("shop").get(HOST, name) is None
    assert operator.core.store.deployment("shop").revision == before


@pytest.mark.parametrize("name", ["edge", "web", "all", "any"])
def test_no_host_is_named_like_a_group(operator: Operator, declared: None, name: str) -> None:
    refused(operator, name, "is the name of a group", groups=["web"])


def test_nor_like_one_that_only_a_token_grants_or_a_document_names(operator: Operator) -> None:
    operator.token(groups=["ops"])
    refused(operator, "ops", "is the name of a group")
    operator.apply(document="deployment: shop\nvpn: {a: {cidr: 10.66.0.0/16, members: [ops]}}\n",
                   base_revision=None)  # fmt: skip
    revoke_all(operator)
    refused(operator, "ops", "is the name of a group")
    with pytest.raises(Conflict, match="is the name of a group"):
        operator.token(host="ops")


@pytest.mark.parametrize("name", ["web1", "web2", "web3", "bastion", "gw1", "word"])
def test_whom_a_document_names_nobody_becomes_but_by_a_token_for_that_name(
    core: Core, operator: Operator, declared: None, name: str
) -> None:
    operator.host_remove(deployment="shop", host=name)
    refused(operator, name, f"token create --host {name}", groups=["web"])
    operator.join(name, operator.token(groups=["web"], host=name))
    assert name in core.store.view("shop").hosts


def test_a_name_is_free_again_once_nothing_names_it(operator: Operator, declared: None) -> None:
    operator.host_remove(deployment="shop", host="bastion")
    operator.apply(document=DOCUMENT.replace('"host:bastion"', "group:web"), base_revision=None)
    operator.join("bastion", operator.token(groups=["web"]))


def test_a_living_host_comes_again_under_its_name_by_any_token(
    operator: Operator, declared: None
) -> None:
    operator.host_readmit(deployment="shop", host="web1", seconds=60)
    operator.join("web1", operator.token(groups=["web"]))


@pytest.mark.parametrize("group", ["web1", "bastion"])
def test_no_group_is_named_like_a_host(operator: Operator, declared: None, group: str) -> None:
    with pytest.raises(Conflict, match="is the name of a host"):
        operator.token(groups=[group])
    revoke_all(operator)
    document = DOCUMENT.replace("on: edge", f"on: {group}")
    with pytest.raises(InvalidDocument, match=f"no host is in the group '{group}'"):
        operator.apply(document=document, base_revision=None)


@pytest.mark.parametrize("group", ["bastion", "word"])
def test_nor_like_one_that_is_gone_and_named_still(
    operator: Operator, declared: None, group: str
) -> None:
    operator.host_remove(deployment="shop", host=group)
    with pytest.raises(Conflict, match="is the name of a host"):
        operator.token(groups=[group])


def test_a_group_that_is_gone_and_named_still_is_granted_again(
    operator: Operator, declared: None
) -> None:
    operator.host_remove(deployment="shop", host="edge1")
    revoke_all(operator)
    operator.join("edge9", operator.token(groups=["edge"]))


def test_a_token_is_not_for_a_host_of_its_own_groups_name(operator: Operator) -> None:
    with pytest.raises(Conflict, match="is the name of a group"):
        operator.token(groups=["ops"], host="ops")


def test_each_service_says_whom_its_specs_name(core: Core, declared: None) -> None:
    view = core.store.view("shop")
    named = {
        name: service.mentions(service.Spec.model_validate(row.body))
        for name, service in registry.services().items()
        for row in view.rows(name)
    }
    vpn, firewall, balancer = (named[it] for it in ("vpn", "firewall", "loadbalancer"))
    assert (vpn.hosts, vpn.groups) == ({"gw1"}, {"all"})
    assert (firewall.hosts, firewall.groups) == ({"bastion"}, {"all", "web"})
    assert firewall.words == {"edge", "word", "all"}
    assert (balancer.hosts, balancer.groups) == ({"web1", "web2"}, {"edge"})
    assert balancer.words == {"web2", "web3"}


# who is refused is told of, and may not go on asking


def test_a_refused_name_is_a_line_and_an_event_once(
    core: Core, operator: Operator, told: Told
) -> None:
    token = operator.token(uses=1)
    operator.join("db1")
    told.audits.clear()
    for _again in range(3):
        with pytest.raises(Conflict):
            operator.join("db1", token)
    assert [event.type for event in told.audits] == ["audit.join-refused"]
    (line,) = operator.audit_list(deployment="shop", query={"action": "join refused"})["lines"]
    assert (line["kind"], line["name"], line["host"]) == ("token", token.split(".")[0], "db1")
    assert operator.token_list(deployment="shop")[0]["uses_left"] == 1


def test_a_token_by_which_many_names_are_asked_for_is_revoked(operator: Operator) -> None:
    token = operator.token(uses=1)
    for number in range(6):
        operator.join(f"db{number}")
        with pytest.raises(Conflict):
            operator.join(f"db{number}", token)
    (status,) = (it for it in operator.token_list(deployment="shop") if it["uses_left"] == 1)
    assert status["revoked"]
