# SPDX-License-Identifier: Apache-2.0
"""cnsmo-manage cloud, with VMs that are lines in a file."""

import json
import re
from typing import ClassVar

import pytest

from cnsmo.cloud.deployer import Order, Server
from cnsmo.cloud.deployers.noop import NoopDeployer
from cnsmo.model.errors import Unavailable
from tests.functional.manage.person import Person

WEB = "cloud launch web --deployer noop --no-wait"


@pytest.fixture
def shop(person: Person) -> Person:
    person.does("deployment create shop")
    return person


def vms(person: Person) -> list[str]:
    return [row["vm"] for row in person.does("cloud list --deployer noop -f json").json]


def test_vms_are_launched_listed_and_removed(shop: Person) -> None:
    assert shop.does(f"{WEB} --count 2").out == "2 VMs of web run.\n"
    assert vms(shop) == ["web0", "web1"]
    shop.does("cloud remove --deployer noop web0")
    assert vms(shop) == ["web1"]
    again = shop.does(f"{WEB} --count 2")
    assert "There already: web1." in again.err
    assert vms(shop) == ["web0", "web1"]


def test_a_dry_run_makes_nothing(shop: Person) -> None:
    assert "would make web0, web1" in shop.does(f"{WEB} --count 2 --dry-run").out
    assert vms(shop) == []
    assert json.loads(shop.does("token list -f json").out) == []


def test_hosts_that_do_not_come_are_told(shop: Person) -> None:
    told = shop.fails(9, "cloud launch web --deployer noop --wait 1s")
    assert "web0: has not joined" in told
    assert "Not ready after 1 s; the VMs stay." in told


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"{WEB} --count 0", "--count: from 1 to 1,000"),
        ("cloud launch Web --deployer noop", "is not a"),
        ("cloud launch web --deployer openstack", "--core: say where to join"),
        ("cloud launch web --deployer openstack --core http://a", "--core"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_made(
    shop: Person, line: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", "/nonexistent/clouds.yaml")
    monkeypatch.setenv("OS_CLOUD", "envvars")
    assert message in shop.run(line).err
    assert vms(shop) == []


def test_an_unknown_deployer_is_told_with_those_that_there_are(shop: Person) -> None:
    said = shop.run("cloud list --deployer ec2")
    assert said.code == 1
    assert "no deployer 'ec2' is installed; there are: lab, noop, openstack" in said.err


class Told(NoopDeployer):
    """Keeps what VMs are told; the cloud refuses those of some names."""

    user_data: ClassVar[dict[str, str]] = {}
    refuses: ClassVar[set[str]] = set()

    def boot(self, order: Order) -> Server:
        self.user_data[order.name] = order.user_data
        if order.name in self.refuses:
            raise Unavailable("the cloud cannot now: come again")
        return super().boot(order)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> type[Told]:
    monkeypatch.setattr(Told, "user_data", {})
    monkeypatch.setattr(Told, "refuses", set())
    monkeypatch.setattr("cnsmo.cloud.registry.load", lambda conf, _name: Told(conf))
    return Told


TELLING = f"cloud launch web --core https://198.51.100.10:8743 --ca {'0' * 64} --no-wait"


def tokens(person: Person) -> dict[str, tuple[int, str]]:
    """How often each may be used still, and whether."""
    rows = person.does("token list -f json").json
    return {row["id"]: (row["uses_left"], row["status"]) for row in rows}


def in_user_data(told: type[Told]) -> dict[str, str]:
    """The id of the token that each VM has."""
    found = {
        name: re.findall(r'"token": "(t-[0-9a-f]+)\.', it) for name, it in told.user_data.items()
    }
    return {name: ident for name, (ident,) in found.items()}


def test_every_vm_has_a_token_of_its_own_for_one_host(shop: Person, told: type[Told]) -> None:
    shop.does(f"{TELLING} --count 3")
    has = in_user_data(told)
    assert has.keys() == {"web0", "web1", "web2"}
    assert tokens(shop) == dict.fromkeys(has.values(), (1, "valid"))
    assert len(set(has.values())) == 3


@pytest.mark.parametrize("keep", [False, True])
def test_of_vms_that_are_not_made_the_tokens_are_no_use_any_more(
    shop: Person, told: type[Told], keep: bool
) -> None:
    told.refuses.add("web1")
    shop.fails(1, f"{TELLING} --count 2{' --keep' * keep}")
    made = vms(shop)
    assert not made or keep
    for name, ident in in_user_data(told).items():
        assert tokens(shop)[ident][1] == ("valid" if name in made else "revoked"), name


def test_who_needs_no_telling_gets_no_token(shop: Person) -> None:
    shop.does(f"{WEB} --count 2")
    assert tokens(shop) == {}
