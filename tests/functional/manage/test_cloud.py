# SPDX-License-Identifier: Apache-2.0
"""cnsmo-manage cloud, with VMs that are lines in a file."""

import json

import pytest

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
