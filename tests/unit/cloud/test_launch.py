# SPDX-License-Identifier: Apache-2.0
"""A launch makes what is missing, all of it or nothing."""

import dataclasses
from typing import ClassVar

import pytest
from oslo_config import cfg

from cnsmo.cloud import launch
from cnsmo.cloud.deployer import Order, Server, Status, named
from cnsmo.cloud.deployers.noop import NoopDeployer
from cnsmo.cloud.launch import Failed, Launch, missing
from cnsmo.model.errors import Conflict, NotFound, Unavailable


class Moody(NoopDeployer):
    """Refuses VMs of some names, makes others that fail, and cannot remove others."""

    refuses: ClassVar[list[str]] = []
    fails: ClassVar[list[str]] = []
    keeps: ClassVar[list[str]] = []

    def boot(self, order: Order) -> Server:
        if order.name in self.refuses:
            raise Unavailable("the cloud cannot now: come again")
        made = super().boot(order)
        if order.name in self.fails:
            made = dataclasses.replace(made, status=Status.FAILED, why="No valid host was found.")
        return made

    def remove(self, server: Server) -> None:
        if server.name in self.keeps:
            raise Unavailable("the cloud cannot now: come again")
        super().remove(server)


@pytest.fixture
def deployer(conf: cfg.ConfigOpts, monkeypatch: pytest.MonkeyPatch) -> Moody:
    for name in ("refuses", "fails", "keeps"):
        monkeypatch.setattr(Moody, name, [])
    return Moody(conf)


def order(name: str, deployment: str = "shop") -> Order:
    return Order(name, deployment, ("web",), "#cloud-config")


def launched(deployer: Moody, *names: str) -> list[str]:
    made = Launch(deployer, lambda _name, _how: None).run([order(name) for name in names], 10)
    return [server.name for server in made]


def there(deployer: Moody) -> list[str]:
    return [server.name for server in deployer.servers()]


def test_all_are_made(deployer: Moody) -> None:
    assert launched(deployer, "web1", "web0") == ["web0", "web1"]
    assert there(deployer) == ["web0", "web1"]


def test_what_is_there_is_not_made_again(deployer: Moody) -> None:
    launched(deployer, "web0")
    found = missing(deployer, "shop", ["web0", "web1"])
    assert [one.name for one in found.orders] == ["web1"]
    assert [one.name for one in found.there] == ["web0"]


def test_what_failed_an_earlier_time_is_made_anew(deployer: Moody) -> None:
    launched(deployer, "web0")
    (server,) = deployer.servers()
    deployer.mark(dataclasses.replace(server, status=Status.FAILED), "shop", ("web",))
    found = missing(deployer, "shop", ["web0"])
    assert [one.name for one in found.orders] == [one.name for one in found.broken] == ["web0"]


@pytest.mark.parametrize(("whose", "told"), [("bar", "of deployment 'bar'"), ("", "not CNSMO's")])
def test_a_name_of_somebody_else_is_refused(deployer: Moody, whose: str, told: str) -> None:
    deployer.boot(order("web0", deployment=whose))
    with pytest.raises(Conflict, match=told):
        missing(deployer, "shop", ["web0"])


def test_two_of_a_name_are_refused(deployer: Moody) -> None:
    deployer.boot(order("web0"))
    deployer.boot(order("web0"))
    with pytest.raises(Conflict, match="there are two VMs 'web0'"):
        missing(deployer, "shop", ["web0"])
    with pytest.raises(Conflict, match="say which by its id"):
        named(deployer.servers(), "web0")


@pytest.mark.parametrize("how", ["refuses", "fails"])
def test_when_one_cannot_be_made_none_is_left(deployer: Moody, how: str) -> None:
    getattr(deployer, how).append("web1")
    deployer.boot(order("older"))
    with pytest.raises(Failed, match=r"web1: (the cloud cannot now|No valid host)"):
        launched(deployer, "web0", "web1", "web2")
    assert there(deployer) == ["older"]


def test_what_cannot_be_taken_away_again_is_told(deployer: Moody) -> None:
    deployer.fails.append("web0")
    deployer.keeps.append("web0")
    with pytest.raises(Failed, match="web0: cannot be removed: the cloud cannot now"):
        launched(deployer, "web0")


def test_it_is_left_where_somebody_wants_to_look(deployer: Moody) -> None:
    deployer.fails.append("web0")
    with pytest.raises(Failed, match="web0: left as it is"):
        Launch(deployer, lambda _name, _how: None).run([order("web0")], 10, keep=True)
    assert there(deployer) == ["web0"]


def test_what_is_gone_already_needs_no_removal(deployer: Moody) -> None:
    launched(deployer, "web0")
    (server,) = deployer.servers()
    assert launch.remove(deployer, [server], lambda _name, _how: None) == []
    assert launch.remove(deployer, [server], lambda _name, _how: None) == []
    with pytest.raises(NotFound):
        deployer.refresh(server)
