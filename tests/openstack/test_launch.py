# SPDX-License-Identifier: Apache-2.0
"""cnsmo-manage cloud: VMs are made, found again, adopted and removed, by name and without rest."""

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from openstack.connection import Connection

from cnsmo.bus.clients import OperatorClient
from tests.functional.manage.person import Person
from tests.openstack.conftest import Fleet, Lan

HOW = "--flavor tiny --image empty --core https://198.51.100.10:8743 --no-wait"


@pytest.fixture
def web(person: Person, cloud: Connection, lan: Lan, empty_image: str) -> Iterator[str]:
    """A command line that launches VMs of the group web; they are gone in the end."""
    yield f"cloud launch web --network {lan.name} {HOW}"
    names = [one.name for one in cloud.compute.servers() if one.name.startswith("web")]
    if names:
        person.does("cloud remove", *names)


def servers(cloud: Connection) -> dict[str, Any]:
    return {one.name: one for one in cloud.compute.servers() if one.name.startswith("web")}


def tokens(operator: OperatorClient) -> list[int]:
    """How often each token that is no use any more may be used still."""
    return [one.uses_left for one in operator.token_list("shop") if not one.revoked]


def test_vms_are_made_with_user_data_of_their_own(
    person: Person, operator: OperatorClient, cloud: Connection, admin: Connection, web: str
) -> None:
    said = person.does(f"{web} --count 2")
    assert "web0: runs" in said.err
    made = servers(cloud)
    assert made.keys() == {"web0", "web1"}
    assert {one.status for one in made.values()} == {"ACTIVE"}
    (port,) = cloud.network.ports(device_id=made["web0"].id)
    assert made["web0"].metadata == {
        "cnsmo_deployment": "shop",
        "cnsmo_group": "web",
        "cnsmo_port": port.id,
    }
    text = base64.b64decode(admin.compute.get_server(made["web1"].id).user_data).decode()
    assert text.startswith("## template: jinja")
    assert '"name": "web1"' in text
    assert tokens(operator) == [1, 1], "one for each"


def test_launching_again_makes_what_is_missing(
    person: Person, operator: OperatorClient, cloud: Connection, web: str
) -> None:
    person.does(web)
    first = servers(cloud)["web0"].id
    again = person.does(f"{web} --count 2")
    assert "There already: web0." in again.err
    assert servers(cloud)["web0"].id == first
    assert servers(cloud).keys() == {"web0", "web1"}
    person.does(f"{web} --count 2")
    assert tokens(operator) == [1, 1], "where nothing is missing no token is made"


def test_when_one_fails_all_are_gone(
    person: Person, operator: OperatorClient, cloud: Connection, admin: Connection, web: str
) -> None:
    project = cloud.current_project_id
    usual = admin.compute.get_quota_set(project).instances
    admin.compute.update_quota_set(project, instances=len(list(cloud.compute.servers())) + 1)
    told = person.fails(1, f"{web} --count 3")
    admin.compute.update_quota_set(project, instances=usual)
    assert "Quota exceeded for instances" in told
    assert servers(cloud) == {}
    assert tokens(operator) == []


def test_a_vm_that_the_cloud_cannot_place_says_why(
    person: Person, cloud: Connection, admin: Connection, web: str
) -> None:
    if admin.compute.find_flavor("vast") is None:
        admin.compute.create_flavor(name="vast", ram=1 << 30, vcpus=1, disk=1)
    told = person.fails(1, web.replace("tiny", "vast"))
    assert "web0: No valid host was found" in told
    assert servers(cloud) == {}


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("--image empty", "--image ghost", "the cloud has no image 'ghost'"),
        ("--flavor tiny", "--flavor ghost", "the cloud has no flavor 'ghost'"),
        ("--network lan", "--network ghost-lan", "the cloud has no network 'ghost-lan"),
    ],
)
def test_what_the_cloud_has_not_is_told_before_anything_is_made(
    person: Person, cloud: Connection, web: str, right: str, wrong: str, message: str
) -> None:
    assert message in person.fails(4, web.replace(right, wrong))
    assert servers(cloud) == {}


def test_names_of_others_are_left_alone(
    person: Person, cloud: Connection, web: str, fleet: Fleet
) -> None:
    theirs = fleet.add("web0", "web")
    told = person.fails(5, web)
    assert "a VM 'web0' is there already" in told
    assert cloud.compute.find_server(theirs.id) is not None


def test_the_list_shows_vms_beside_their_hosts(
    person: Person, cloud: Connection, web: str, fleet: Fleet
) -> None:
    person.does(web)
    fleet.add("other", "db")
    rows = {row["vm"]: row for row in person.does("cloud list --all -f json").json}
    assert (rows["web0"]["host"], rows["web0"]["status"]) == (None, "running")
    assert (rows["other"]["host"], rows["other"]["deployment"]) == ("other", None)
    assert {row["vm"] for row in person.does("cloud list -f json").json} == {"web0", "other"}


def test_an_adopted_vm_is_one_of_ours(
    person: Person, operator: OperatorClient, cloud: Connection, fleet: Fleet, web: str
) -> None:
    fleet.add("legacy", "db")
    person.does("cloud adopt legacy")
    assert cloud.compute.get_server(fleet.servers["legacy"].id).metadata == {
        "cnsmo_deployment": "shop",
        "cnsmo_group": "db",
    }
    person.does("cloud remove legacy")
    assert operator.host_list("shop") == []
    assert cloud.compute.find_server(fleet.servers["legacy"].id) is None


def test_vms_of_others_are_not_removed(person: Person, cloud: Connection, fleet: Fleet) -> None:
    fleet.add("legacy", "db")
    assert "the cloud shows no VM 'legacy'" in person.fails(4, "cloud remove legacy")
    assert cloud.compute.find_server(fleet.servers["legacy"].id) is not None


def test_a_floating_ip_that_came_later_reaches_the_core(
    person: Person, operator: OperatorClient, cloud: Connection, fleet: Fleet
) -> None:
    fleet.add("web1", "web")
    public = cloud.network.find_network("public")
    floating = cloud.network.create_ip(floating_network_id=public.id, port_id=fleet.port("web1").id)
    person.does("cloud sync")
    (host,) = operator.host_list("shop")
    assert host.facts.public == (floating.floating_ip_address,)
    assert person.does("cloud sync").out == "", "there is nothing new"
    cloud.network.delete_ip(floating)
    person.does("cloud sync")
    (host,) = operator.host_list("shop")
    assert host.facts.public == ()
