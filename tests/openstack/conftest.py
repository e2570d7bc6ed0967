# SPDX-License-Identifier: Apache-2.0
"""An OpenStack, a core and a person at the commands of cnsmo-manage."""

import dataclasses
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from openstack.connection import Connection
from oslo_config import cfg

from cnsmo.bus.clients import OperatorClient
from cnsmo.core.server import CoreServer
from cnsmo.model.messages import TokenRequest
from tests.beds.bed import MissingPackage
from tests.eventually import eventually
from tests.functional.manage.person import Person, Puppet
from tests.joining import Door
from tests.openstack.lab import Lab, everything


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    try:
        made = Lab.found(tmp_path_factory.mktemp("openstack"))
    except MissingPackage as error:
        pytest.skip(f"no OpenStack: {error}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OS_CLIENT_CONFIG_FILE", str(made.clouds))
        patch.setenv("OS_CLOUD", "lab")
        patch.setenv("NO_PROXY", "*")
        yield made
    made.close()


@pytest.fixture(scope="session")
def admin(lab: Lab) -> Connection:
    return lab.connect("lab-admin")


@pytest.fixture(scope="session")
def cloud(lab: Lab) -> Connection:
    """As an ordinary user of it."""
    return lab.connect("lab")


@pytest.fixture(scope="session")
def empty_image(admin: Connection) -> str:
    """The name of an image of which nothing boots: for what needs a server, and nothing in it."""
    if admin.image.find_image("empty") is None:
        admin.create_image("empty", data=bytes(1 << 20), disk_format="raw", visibility="public")
    if admin.compute.find_flavor("tiny") is None:
        admin.compute.create_flavor(name="tiny", ram=64, vcpus=1, disk=1)
    return "empty"


@dataclasses.dataclass(frozen=True)
class Lan:
    """A network of a test's own."""

    name: str
    network: str
    subnet: str
    cidr: str


@pytest.fixture
def lan(cloud: Connection) -> Iterator[Lan]:
    """A network with a router to the outside; CNSMO leaves nothing there, nor anywhere else."""
    name = f"lan-{uuid.uuid4().hex[:6]}"
    network = cloud.network.create_network(name=name)
    cidr = "10.5.0.0/24"
    subnet = cloud.network.create_subnet(network_id=network.id, ip_version=4, cidr=cidr)
    public = cloud.network.find_network("public")
    router = cloud.network.create_router(external_gateway_info={"network_id": public.id})
    cloud.network.add_interface_to_router(router, subnet=subnet.id)
    yield Lan(name, network.id, subnet.id, cidr)
    cloud.network.remove_interface_from_router(router, subnet=subnet.id)
    cloud.network.delete_router(router)
    ports = [port.name for port in cloud.network.ports(network_id=network.id)]
    left = {
        kind: {one for one in found if "cnsmo" in one} for kind, found in everything(cloud).items()
    }
    for port in list(cloud.network.ports(network_id=network.id)):
        cloud.network.delete_port(port)
    cloud.network.delete_network(network)
    assert ports == []
    assert not any(left.values()), left


@pytest.fixture
def core(conf: cfg.ConfigOpts, door: Door, lan: Lan) -> Iterator[CoreServer]:
    """Ends before the network does, and takes away what it has there."""
    conf.set_override("interval", 2.0, "cloud")
    conf.set_override("down_after", 86400.0, "core")  # puppets have no heart
    made = CoreServer(conf)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def operator(core: CoreServer, conf: cfg.ConfigOpts) -> Iterator[OperatorClient]:
    """Declares nothing any more in the end, and waits until the cloud is rid of it."""
    made = OperatorClient(conf)
    made.deployment_create("shop")
    yield made
    made.apply("deployment: shop\n")
    eventually(lambda: made.provider_list("shop") == [], 120, "the cloud is rid of everything")


@pytest.fixture
def person(operator: OperatorClient, tmp_path: Any) -> Person:
    made = Person(tmp_path)
    made.env["CNSMO_DEPLOYMENT"] = "shop"
    return made


@pytest.fixture
def puppet(core: CoreServer, operator: OperatorClient) -> Callable[..., Puppet]:
    """puppet("web1", "web", instance_id=...): a host that does what it is told."""

    def join(name: str, group: str, **facts: Any) -> Puppet:
        token = operator.token_create("shop", TokenRequest(groups=[group])).token
        return Puppet(core.core, name, str(token), **facts)

    return join


@dataclasses.dataclass
class Fleet:
    """VMs with nothing in them, and hosts that say that they run there."""

    cloud: Connection
    lan: Lan
    puppet: Callable[..., Puppet]
    servers: dict[str, Any] = dataclasses.field(default_factory=dict)

    def add(self, name: str, group: str) -> Any:
        """One more; its port has no security group."""
        port = self.cloud.network.create_port(
            network_id=self.lan.network, name=name, security_group_ids=[]
        )
        made = self.cloud.create_server(
            name,
            image="empty",
            flavor="tiny",
            network=None,
            nics=[{"port-id": port.id}],
            auto_ip=False,
            wait=True,
        )
        self.servers[name] = made
        address = port.fixed_ips[0]["ip_address"]
        self.puppet(name, group, instance_id=made.id, private=(f"{address}/24",))
        return made

    def port(self, name: str) -> Any:
        (found,) = self.cloud.network.ports(device_id=self.servers[name].id)
        return found

    def address(self, name: str) -> str:
        return str(self.port(name).fixed_ips[0]["ip_address"])

    def close(self) -> None:
        for made in self.servers.values():
            self.cloud.delete_server(made.id, wait=True)
        for name in self.servers:
            for port in self.cloud.network.ports(name=name, network_id=self.lan.network):
                self.cloud.network.delete_port(port)


@pytest.fixture
def fleet(
    cloud: Connection, lan: Lan, puppet: Callable[..., Puppet], empty_image: str
) -> Iterator[Fleet]:
    made = Fleet(cloud, lan, puppet)
    yield made
    made.close()
