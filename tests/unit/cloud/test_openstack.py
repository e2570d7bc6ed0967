# SPDX-License-Identifier: Apache-2.0
"""The OpenStack deployer, and errors of a cloud in words; with openstacksdk's own doubles."""

import base64
from typing import Any
from unittest import mock

import pytest
import requests
import requests_mock
from keystoneauth1 import exceptions as auth
from openstack import exceptions as sdk
from openstack.compute import compute_service
from openstack.compute.v2.server import Server as NovaServer
from openstack.image import image_service
from openstack.network import network_service
from openstack.network.v2.floating_ip import FloatingIP
from openstack.network.v2.port import Port
from openstack.test import fakes
from oslo_config import cfg

from cnsmo.cloud.deployer import Order, Server, Status
from cnsmo.cloud.deployers.openstack import MARK, OpenstackDeployer
from cnsmo.model.errors import CnsmoError, Conflict, Denied, DriverError, NotFound, Unavailable
from cnsmo.services.kit.openstack import connect, told

ORDER = Order(
    "web0", "shop", ("web",), "#cloud-config\n", flavor="small", image="debian", network="lan"
)


@pytest.fixture
def cloud() -> mock.Mock:
    made = mock.Mock()
    made.compute = fakes.generate_fake_proxy(compute_service.ComputeService)
    made.network = fakes.generate_fake_proxy(network_service.NetworkService)
    made.image = fakes.generate_fake_proxy(image_service.ImageService, "2")
    return made


@pytest.fixture
def deployer(conf: cfg.ConfigOpts, cloud: mock.Mock, monkeypatch: Any) -> OpenstackDeployer:
    made = OpenstackDeployer(conf)
    monkeypatch.setattr(OpenstackDeployer, "cloud", cloud)
    return made


def nova(**attributes: Any) -> NovaServer:
    given: dict[str, Any] = {"addresses": {}, "metadata": {}, "fault": None, "status": "ACTIVE"}
    return fakes.generate_fake_resource(NovaServer, **{**given, **attributes})


def test_a_vm_is_asked_for_with_a_port_of_its_own(
    deployer: OpenstackDeployer, cloud: mock.Mock
) -> None:
    cloud.compute.get_server.side_effect = None
    cloud.compute.get_server.return_value = nova(name="web0", status="BUILD")
    made = deployer.boot(ORDER)
    assert made.status is Status.BUILDING
    asked = cloud.compute.create_server.call_args.kwargs
    assert base64.b64decode(asked["user_data"]) == b"#cloud-config\n"
    assert asked["metadata"] == {
        "cnsmo_deployment": "shop",
        "cnsmo_group": "web",
        "cnsmo_port": asked["networks"][0]["port"],
    }
    assert "key_name" not in asked
    port = cloud.network.create_port.call_args.kwargs
    assert port["description"] == "made by CNSMO for deployment shop"


def test_a_refused_vm_leaves_no_port(deployer: OpenstackDeployer, cloud: mock.Mock) -> None:
    cloud.compute.create_server.side_effect = sdk.ForbiddenException("Quota exceeded for instances")
    with pytest.raises(Conflict, match="server web0: the cloud refuses: Quota exceeded"):
        deployer.boot(ORDER)
    assert cloud.network.delete_port.call_count == 1


def port(ident: str, description: str = MARK.format("shop")) -> Port:
    return fakes.generate_fake_resource(Port, id=ident, description=description)


def test_a_vm_that_nobody_hears_of_again_leaves_nothing(
    deployer: OpenstackDeployer, cloud: mock.Mock
) -> None:
    cloud.network.create_port.side_effect = None
    cloud.network.create_port.return_value = port("p-1")
    cloud.compute.create_server.side_effect = None
    cloud.compute.create_server.return_value = nova(id="i-1")
    cloud.compute.get_server.side_effect = auth.ConnectFailure("no route")
    cloud.compute.find_server.side_effect = [nova(id="i-1"), None]
    with pytest.raises(Unavailable, match="server web0: the cloud does not answer"):
        deployer.boot(ORDER)
    cloud.compute.delete_server.assert_called_once_with("i-1", ignore_missing=True)
    cloud.network.delete_port.assert_called_once_with("p-1", ignore_missing=True)


def test_what_cannot_be_taken_away_at_once_is_named(
    deployer: OpenstackDeployer, cloud: mock.Mock
) -> None:
    cloud.network.create_port.side_effect = None
    cloud.network.create_port.return_value = port("p-1")
    cloud.compute.create_server.side_effect = sdk.ForbiddenException("Quota exceeded for instances")
    cloud.network.delete_port.side_effect = auth.ConnectFailure("no route")
    with pytest.raises(CnsmoError, match=r"Quota exceeded .*it is left \(port p-1\): .*no route"):
        deployer.boot(ORDER)


@pytest.mark.parametrize("status", ["ACTIVE", "ERROR"])
def test_a_port_goes_with_its_vm_even_if_nova_has_let_go_of_it(
    deployer: OpenstackDeployer, cloud: mock.Mock, status: str
) -> None:
    """Of a server that could not be placed, Neutron's port has no device any more."""
    one = nova(id="i-1", name="web0", status=status, metadata={"cnsmo_port": "p-1"})
    mine, theirs = port("p-1"), port("p-2", "somebody else's")
    cloud.compute.find_server.side_effect = [one, None]
    cloud.network.ports.side_effect = None
    cloud.network.ports.return_value = [mine, theirs] if status == "ACTIVE" else []
    cloud.network.find_port.side_effect = {"p-1": mine}.get
    deployer.remove(Server("i-1", "web0", Status.FAILED, deployment="shop"))
    cloud.network.delete_port.assert_called_once_with("p-1", ignore_missing=True)


def test_a_port_of_somebody_else_stays_whatever_the_vm_says(
    deployer: OpenstackDeployer, cloud: mock.Mock
) -> None:
    one = nova(id="i-1", name="web0", metadata={"cnsmo_port": "p-2"})
    cloud.compute.find_server.side_effect = [one, None]
    cloud.network.ports.side_effect = None
    cloud.network.ports.return_value = []
    cloud.network.find_port.side_effect = {"p-2": port("p-2", "somebody else's")}.get
    deployer.remove(Server("i-1", "web0", Status.RUNNING, deployment="shop"))
    assert cloud.network.delete_port.call_count == 0


def test_what_the_cloud_has_not_is_named(deployer: OpenstackDeployer, cloud: mock.Mock) -> None:
    cloud.image.find_image.side_effect = None
    cloud.image.find_image.return_value = None
    with pytest.raises(NotFound, match="the cloud has no image 'debian'"):
        deployer.check(ORDER)


def test_fixed_and_floating_addresses_are_told_apart(
    deployer: OpenstackDeployer, cloud: mock.Mock
) -> None:
    addresses = {
        "lan": [
            {"addr": "10.5.0.7", "OS-EXT-IPS:type": "fixed"},
            {"addr": "203.0.113.7", "OS-EXT-IPS:type": "floating"},
        ],
        "dmz": [{"addr": "10.6.0.7", "OS-EXT-IPS:type": "fixed"}],
    }
    one = nova(id="i-1", name="web0", addresses=addresses, metadata={"cnsmo_deployment": "shop"})
    late = fakes.generate_fake_resource(
        FloatingIP,
        fixed_ip_address="10.6.0.7",
        floating_ip_address="203.0.113.8",
        name="203.0.113.8",  # of the same field
        port_id="p",
        port_details={"device_id": "i-1"},
    )
    cloud.compute.servers.side_effect = cloud.network.ips.side_effect = None
    cloud.compute.servers.return_value, cloud.network.ips.return_value = [one], [late]
    (server,) = deployer.owned("shop")
    assert server.private == ("10.5.0.7", "10.6.0.7")
    assert server.public == ("203.0.113.7", "203.0.113.8")


def test_a_failed_vm_says_why(deployer: OpenstackDeployer, cloud: mock.Mock) -> None:
    broken = nova(status="ERROR", fault={"message": "No valid host was found."})
    cloud.compute.servers.side_effect = cloud.network.ips.side_effect = None
    cloud.compute.servers.return_value, cloud.network.ips.return_value = [broken], []
    (server,) = deployer.servers()
    assert (server.status, server.why) == (Status.FAILED, "No valid host was found.")


JSON = {"Content-Type": "application/json"}


def answered(status: int, body: dict[str, Any]) -> requests.Response:
    """What a cloud's API answers."""
    with requests_mock.Mocker() as web:
        web.get("https://cloud.example.net/", status_code=status, json=body, headers=JSON)
        return requests.get("https://cloud.example.net/", timeout=5)


@pytest.mark.parametrize(
    ("status", "text", "kind", "said"),
    [
        (403, "Quota exceeded for cores", Conflict, "refuses: Quota exceeded for cores"),
        (403, "Policy doesn't allow it", Denied, "refuses: Policy doesn't allow it"),
        (409, "Quota exceeded for resources: ['port']", Conflict, "refuses: Quota exceeded"),
        (413, "Over limit", Unavailable, "cannot now: Over limit"),
        (429, "Slow down", Unavailable, "cannot now: Slow down"),
        (500, "Broken", Unavailable, "cannot now: Broken"),
        (503, "Repairs", Unavailable, "cannot now: Repairs"),
        (400, "Bad name", DriverError, "refuses: Bad name"),
    ],
)
def test_what_a_cloud_answers_is_told_in_its_words(
    status: int, text: str, kind: type[CnsmoError], said: str
) -> None:
    answer = answered(status, {"error": {"message": text}})
    with pytest.raises(kind, match=said), told("port of web0"):
        sdk.raise_from_response(answer)


@pytest.mark.parametrize(
    "failure", [auth.ConnectFailure("no route"), auth.EndpointNotFound("no such service")]
)
def test_a_cloud_that_does_not_answer_is_unavailable(failure: Exception) -> None:
    with pytest.raises(Unavailable, match="the cloud does not answer"), told("servers"):
        raise failure


def test_a_cloud_that_nobody_configured_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", "/nonexistent/clouds.yaml")
    with pytest.raises(CnsmoError, match=r"no cloud is configured: .*nowhere"):
        connect("nowhere")
