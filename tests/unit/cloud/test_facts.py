# SPDX-License-Identifier: Apache-2.0
"""Hosts and the VMs that they are; what the core makes of what a cloud says."""

from cnsmo.cloud.deployer import Server, Status
from cnsmo.cloud.facts import match
from cnsmo.core.context import Core
from cnsmo.model.host import HostFacts
from tests.unit.conftest import Operator


def server(ident: str, name: str, **more: object) -> Server:
    return Server(id=ident, name=name, status=Status.RUNNING, **more)  # type: ignore[arg-type]


def test_a_host_is_the_vm_of_its_instance_id() -> None:
    hosts = {"web1": HostFacts(instance_id="i-2")}
    (found,) = match(hosts, [server("i-1", "web1"), server("i-2", "other")], "shop")
    assert found.server is not None
    assert found.server.id == "i-2"


def test_without_an_id_it_is_the_deployments_vm_of_its_name() -> None:
    hosts = {"web1": HostFacts(), "web2": HostFacts()}
    mine = server("i-1", "web1", deployment="shop", public=("203.0.113.9",))
    first, second = match(hosts, [mine, server("i-2", "web2", deployment="bar")], "shop")
    assert first.facts.public == ("203.0.113.9",)
    assert first.facts.instance_id == "i-1"
    assert second.server is None, "a VM of somebody else"


def test_another_vm_of_the_same_name_is_not_it() -> None:
    hosts = {"web1": HostFacts(instance_id="gone")}
    (found,) = match(hosts, [server("i-1", "web1", deployment="shop")], "shop")
    assert found.server is None


def learn(operator: Operator, **facts: object) -> None:
    operator.host_learn(deployment="shop", host="web1", facts=facts)


def public(operator: Operator) -> list[str]:
    (host,) = operator.host_list(deployment="shop")
    return list(host["facts"]["public"])


def test_what_the_cloud_says_goes_before_what_a_host_believes(operator: Operator) -> None:
    operator.join("web1", public=["203.0.113.1"])
    learn(operator, public=["203.0.113.9"], instance_id="i-1")
    assert public(operator) == ["203.0.113.9", "203.0.113.1"]
    (host,) = operator.host_list(deployment="shop")
    assert host["facts"]["instance_id"] == "i-1"


def test_a_host_that_tells_its_facts_anew_does_not_undo_it(operator: Operator) -> None:
    web1 = operator.join("web1")
    learn(operator, public=["203.0.113.9"])
    web1.facts(facts={"private": ["10.1.0.5/24"]})
    assert public(operator) == ["203.0.113.9"]
    learn(operator)
    assert public(operator) == [], "the floating IP is gone"


def test_what_is_known_already_makes_no_revision(core: Core, operator: Operator) -> None:
    operator.join("web1")
    learn(operator, public=["203.0.113.9"])
    before = core.store.deployment("shop").revision
    learn(operator, public=["203.0.113.9"])
    assert core.store.deployment("shop").revision == before
