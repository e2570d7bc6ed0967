# SPDX-License-Identifier: Apache-2.0
"""A removal is over when the last of the others has applied it, and the operator sees when."""

from pathlib import Path

import pytest

from cnsmo.core.context import Core
from cnsmo.core.membership import Membership
from cnsmo.model.audit import Act
from cnsmo.model.errors import Denied, InvalidRequest
from cnsmo.model.messages import RemovedHost
from cnsmo.model.resource import Changes, View
from cnsmo.state.replica import Replica
from tests.unit.conftest import Caller, Operator

ANNA = Act.of_operator("anna", "host remove")


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
    revision = Membership(core).remove("shop", "web3", ANNA)
    assert removal(operator).revision == revision
    assert removal(operator).waiting == ["web1", "web2"]
    applied(hosts["web1"], revision)
    applied(hosts["web2"], revision - 1)
    core.removals.confirm()
    assert removal(operator).waiting == ["web2"]
    assert removal(operator).confirmed_at is None


def test_who_confirmed_last_says_when(
    core: Core, operator: Operator, hosts: dict[str, Caller]
) -> None:
    revision = Membership(core).remove("shop", "web3", ANNA)
    for name in ("web1", "web2"):
        applied(hosts[name], revision)
    core.removals.confirm()
    first = removal(operator)
    assert first.waiting == []
    assert first.confirmed_at is not None
    assert first.removed_at <= first.confirmed_at
    operator.join("web4")
    core.removals.confirm()
    assert removal(operator) == first


def test_who_is_removed_later_is_not_waited_for(
    core: Core, operator: Operator, hosts: dict[str, Caller]
) -> None:
    Membership(core).remove("shop", "web3", ANNA)
    applied(hosts["web1"], Membership(core).remove("shop", "web2", ANNA))
    core.removals.confirm()
    found = operator.host_removals(deployment="shop")
    assert all(it["confirmed_at"] for it in found)
    assert [it["host"] for it in found] == ["web3", "web2"]


def test_a_host_that_comes_back_is_another_one(
    core: Core, operator: Operator, hosts: dict[str, Caller]
) -> None:
    Membership(core).remove("shop", "web3", ANNA)
    assert operator.join("web3").ident != hosts["web3"].ident
    assert removal(operator).id == hosts["web3"].ident


def test_the_tokens_by_which_it_came_let_nobody_in_any_more(core: Core, operator: Operator) -> None:
    first, second, other = (operator.token() for _each in range(3))
    operator.join("web1", first)
    operator.host_readmit(deployment="shop", host="web1", seconds=60)
    operator.join("web1", second)
    (shown,) = operator.host_list(deployment="shop")
    assert shown["tokens"] == [it.split(".")[0] for it in (first, second)]
    operator.host_remove(deployment="shop", host="web1")
    for token in (first, second):
        with pytest.raises(Denied):
            operator.join("web9", token)
    operator.join("web9", other)


def test_they_stay_where_the_operator_says_so_or_the_host_leaves(operator: Operator) -> None:
    token = operator.token()
    operator.join("web1", token)
    operator.host_remove(deployment="shop", host="web1", keep_tokens=True)
    operator.join("web2", token).leave()
    operator.join("web3", token)
    with pytest.raises(InvalidRequest, match="keep_tokens"):
        operator.host_remove(deployment="shop", host="web3", keep_tokens="yes")


def test_who_was_removed_by_an_operator_is_distrusted_until_the_name_joins_again(
    core: Core, operator: Operator, tmp_path: Path
) -> None:
    _web1, _web2, web3 = (operator.join(name) for name in ("web1", "web2", "web3"))
    replica = Replica(tmp_path / "replica.json", "shop", web3.ident)
    replica.update(synced(web3, replica))
    operator.host_quarantine(deployment="shop", host="web2", release=False)
    operator.host_remove(deployment="shop", host="web1")
    replica.update(synced(web3, replica))
    assert replica.view().distrusted == ("web1", "web2")
    assert list(replica.view().everybody) == ["web2", "web3"]
    for _time in range(2):
        replica.save()
        again = Replica(replica.path, "shop", web3.ident)
        assert again.load()
        assert again.view().distrusted == ("web1", "web2")
        replica = again
    operator.host_quarantine(deployment="shop", host="web2", release=True)
    operator.join("web1")
    replica.update(synced(web3, replica))
    assert replica.view().distrusted == ()


def test_who_left_by_itself_is_not_distrusted(core: Core, operator: Operator) -> None:
    web1, web2 = operator.join("web1"), operator.join("web2")
    web1.leave()
    view = View("shop", 0, ()).after(1, Changes.model_validate(web2.sync(since=0)).rows)
    assert view.distrusted == ()


def synced(host: Caller, replica: Replica) -> Changes:
    return Changes.model_validate(host.sync(since=replica.revision))
