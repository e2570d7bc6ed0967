# SPDX-License-Identifier: Apache-2.0
"""A host in quarantine is nowhere, keeps its place, and cannot talk itself out of it."""

from typing import Any

import pytest

from cnsmo.core.context import Core
from cnsmo.core.membership import Membership
from cnsmo.model.audit import Act
from cnsmo.model.errors import Denied, InvalidRequest, NotAdmitted, NotFound
from cnsmo.model.resource import HOST, View
from cnsmo.services import registry
from cnsmo.state.tokens import BAD_TOKEN
from tests.unit.conftest import Caller, Operator, Told, join, request_to_join

ANNA = Act.of_operator("anna", "host remove")

MESH = """
deployment: shop
vpn: {backbone: {cidr: 10.66.0.0/16, driver: noop}}
firewall:
  perimeter: {driver: noop, inbound: [{from: web, to: web, protocol: tcp, ports: [80]}]}
loadbalancer:
  www: {driver: noop, on: edge, listen: 80, pool: {group: web, port: 80}}
"""
OFFER = {"service": "vpn", "instance": "backbone", "body": {"driver": "noop"}}
NAMES = ("edge1", "web1", "web2")


@pytest.fixture
def hosts(operator: Operator) -> dict[str, Caller]:
    made = {}
    for number, name in enumerate(NAMES, 1):
        token = operator.token(groups=[name.rstrip("12")])
        made[name] = operator.join(name, token, private=(f"192.168.1.{number}/24",))
    operator.apply(document=MESH, base_revision=None)
    for name in NAMES:
        made[name].announce(announcement=OFFER)
    return made


def quarantine(operator: Operator, host: str, release: bool = False) -> Any:
    return operator.host_quarantine(deployment="shop", host=host, release=release)


def view(core: Core) -> View:
    return core.store.view("shop")


def desired(core: Core, host: str) -> str:
    """All that a host is told, by all services."""
    found = {
        name: service.compile(view(core), host) for name, service in registry.services().items()
    }
    return repr(found)


def test_others_do_not_know_it_any_more_and_it_comes_back_to_its_place(
    core: Core, operator: Operator, hosts: dict[str, Caller]
) -> None:
    before = {name: desired(core, name) for name in NAMES}
    assert "10.66.0.3" in before["web1"]
    quarantine(operator, "web2")
    for name in ("edge1", "web1"):
        told = desired(core, name).replace("distrusted=('web2',)", "")  # whose flows are ended
        assert "web2" not in told
        assert "10.66.0.3" not in told
        assert "192.168.1.3" not in told
    quarantine(operator, "web2", release=True)
    assert {name: desired(core, name) for name in NAMES} == before


def test_services_do_not_see_it_among_hosts_and_members(
    core: Core, operator: Operator, hosts: dict[str, Caller]
) -> None:
    quarantine(operator, "web2")
    seen = view(core)
    assert set(seen.hosts) == set(seen.members("vpn", "backbone")) == {"edge1", "web1"}
    assert set(seen.everybody) == set(seen.places("vpn", "backbone")) == set(NAMES)
    assert set(seen.in_groups(["web"])) == {"web1"}
    assert "web" in seen.groups


def test_itself_it_has_a_firewall_and_nothing_else(
    core: Core, operator: Operator, hosts: dict[str, Caller]
) -> None:
    quarantine(operator, "web2")
    found = {
        name for name, service in registry.services().items() if service.compile(view(core), "web2")
    }
    assert found == {"firewall"}
    assert "192.168.1" not in desired(core, "web2")


def test_what_it_says_of_itself_does_not_let_it_out(
    core: Core, operator: Operator, hosts: dict[str, Caller]
) -> None:
    quarantine(operator, "web2")
    revision = core.store.deployment("shop").revision
    hosts["web2"].facts(facts={"site": "elsewhere"})
    assert core.store.deployment("shop").revision == revision
    with pytest.raises(NotAdmitted, match="in quarantine"):
        hosts["web2"].announce(announcement=OFFER)
    assert view(core).everybody["web2"].quarantined
    assert "web2" not in view(core).hosts


def test_a_join_anew_does_not_let_it_out(core: Core, operator: Operator) -> None:
    request = request_to_join("web9", operator.token())
    join(core, request)
    quarantine(operator, "web9")
    join(core, request)
    operator.host_readmit(deployment="shop", host="web9", seconds=60)
    join(core, request_to_join("web9", operator.token()))
    assert view(core).everybody["web9"].quarantined


def test_it_reports_and_beats_as_before(operator: Operator, hosts: dict[str, Caller]) -> None:
    revision = quarantine(operator, "web2")
    answer = hosts["web2"].heartbeat(beat={"applied": {"vpn": revision}})
    assert answer["head"] >= revision
    assert hosts["web2"].sync(since=revision - 1)["head"] >= revision
    (shown,) = [it for it in operator.host_list(deployment="shop") if it["name"] == "web2"]
    assert shown["quarantined"]


def test_its_addresses_are_nobody_elses(
    core: Core, operator: Operator, hosts: dict[str, Caller]
) -> None:
    quarantine(operator, "web2")
    token = operator.token(groups=["web"])
    operator.join("web3", token, private=("192.168.1.9/24",)).announce(announcement=OFFER)
    members = view(core).members("vpn", "backbone")
    assert members["web3"].body["addresses"] == ["10.66.0.4"]


def test_everybody_hears_of_it_at_once(
    core: Core, operator: Operator, hosts: dict[str, Caller], told: Told
) -> None:
    told.types()
    told.urgent.clear()
    quarantine(operator, "web2")
    assert told.urgent == [True]
    assert told.types() == ["host.quarantined"]
    quarantine(operator, "web2", release=True)
    assert told.urgent == [True, True]


def test_saying_it_twice_changes_nothing(operator: Operator, hosts: dict[str, Caller]) -> None:
    assert quarantine(operator, "web2") == quarantine(operator, "web2")


def test_a_host_that_is_not_there_is_named(operator: Operator, hosts: dict[str, Caller]) -> None:
    with pytest.raises(NotFound, match="no host 'web7'"):
        quarantine(operator, "web7")
    with pytest.raises(InvalidRequest, match="release"):
        operator.host_quarantine(deployment="shop", host="web1", release="yes")


def test_a_removed_host_leaves_no_quarantine_to_the_next_of_its_name(
    core: Core, operator: Operator, hosts: dict[str, Caller]
) -> None:
    quarantine(operator, "web2")
    Membership(core).remove("shop", "web2", ANNA)
    operator.join("web2", operator.token(groups=["web"]))
    row = view(core).get(HOST, "web2")
    assert row is not None
    assert "quarantined" not in row.body


def test_documents_may_name_it_all_the_same(operator: Operator, hosts: dict[str, Caller]) -> None:
    quarantine(operator, "web2")
    document = MESH.replace("group: web,", "hosts: [web1, web2],")
    assert operator.plan(document=document)["changes"]


def test_it_does_not_leave_to_come_back_as_somebody_else(
    core: Core, operator: Operator, hosts: dict[str, Caller]
) -> None:
    token = operator.token(groups=["web"])
    thief = operator.join("web7", token)
    quarantine(operator, "web7")
    with pytest.raises(NotAdmitted, match="only an operator can remove it"):
        thief.leave()
    for name in ("web7", "web8"):
        with pytest.raises(Denied) as caught:
            operator.join(name, token)
        assert str(caught.value) == BAD_TOKEN
    assert view(core).everybody["web7"].quarantined
    quarantine(operator, "web7", release=True)
    operator.join("web8", token)
    thief.leave()
