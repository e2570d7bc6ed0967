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
from openstack.test import fakes
from oslo_config import cfg

from cnsmo.cloud.deployer import Order, Status
from cnsmo.cloud.deployers.openstack import OpenstackDeployer
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
    assert asked["metadata"] == {"cnsmo_deployment": "shop", "cnsmo_group": "web"}
    assert "key_name" not in asked
    port = cloud.network.create_port.call_args.kwargs
    assert port["description"] == "made by CNSMO for deployment shop"


def test_a_refused_vm_leaves_no_port(deployer: OpenstackDeployer, cloud: mock.Mock) -> None:
    cloud.compute.create_server.side_effect = sdk.ForbiddenException("Quota exceeded for instances")
    with pytest.raises(Conflict, match="server web0: the cloud refuses: Quota exceeded"):
        deployer.boot(ORDER)
    assert cloud.network.delete_port.call_count == 1


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
