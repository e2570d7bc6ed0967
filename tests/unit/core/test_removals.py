# SPDX-License-Identifier: Apache-2.0
"""A removal is over when the last of the others has applied it, and the operator sees when."""

import pytest

from cnsmo.core.context import Core
from cnsmo.core.health import Health
from cnsmo.core.membership import Membership
from cnsmo.model.messages import RemovedHost
from tests.unit.conftest import Caller, Operator


@pytest.fixture
def hosts(operator: Operator) -> dict[str, Caller]:
    return {name: operator.join(name) for name in ("web1", "web2", "web3")}


def removal(operator: Operator) -> RemovedHost:
    (found,) = operator.host_removals(deployment="shop")
    return RemovedHost.model_validate(found)


def applied(host: Caller, revision: int) -> None:
    host.heartbeat(beat={"applied": {"vpn": revision}})


def test_a_removal_waits_for_all_others_and_says_for_whom(
    core: Core, operator: Operator, hosts: dict[str, Caller]
) -> None:
    revision = Membership(core).remove("shop", "web3", "anna")
    assert removal(operator).revision == revision
    assert removal(operator).waiting == ["web1", "web2"]
    applied(hosts["web1"], revision)
    applied(hosts["web2"], revision - 1)
    Health(core).look()
    assert removal(operator).waiting == ["web2"]
    assert removal(operator).confirmed_at is None


def test_who_confirmed_last_says_when(
    core: Core, operator: Operator, hosts: dict[str, Caller]
) -> None:
    revision = Membership(core).remove("shop", "web3", "anna")
    for name in ("web1", "web2"):
        applied(hosts[name], revision)
    Health(core).look()
    first = removal(operator)
    assert first.waiting == []
    assert first.confirmed_at is not None
    assert first.removed_at <= first.confirmed_at
    operator.join("web4")
    Health(core).look()
    assert removal(operator) == first


def test_who_is_removed_later_is_not_waited_for(
    core: Core, operator: Operator, hosts: dict[str, Caller]
) -> None:
    revision = Membership(core).remove("shop", "web3", "anna")
    applied(hosts["web1"], revision + 1)
    Membership(core).remove("shop", "web2", "anna")
    Health(core).look()
    found = operator.host_removals(deployment="shop")
    assert all(it["confirmed_at"] for it in found)
    assert [it["host"] for it in found] == ["web3", "web2"]


def test_a_host_that_comes_back_is_another_one(
    core: Core, operator: Operator, hosts: dict[str, Caller]
) -> None:
    Membership(core).remove("shop", "web3", "anna")
    assert operator.join("web3").ident != hosts["web3"].ident
    assert removal(operator).id == hosts["web3"].ident
