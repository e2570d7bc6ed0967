# SPDX-License-Identifier: Apache-2.0
"""A stack is complete when its agents are ready, and for no other reason; nothing of it is left."""

import json
import os
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from openstack.connection import Connection
from oslo_config import cfg

from cnsmo.core.server import CoreServer
from tests.beds.bed import MissingPackage
from tests.booting import MANAGE, wheelhouse
from tests.eventually import eventually
from tests.joining import make_authority
from tests.openstack import guest
from tests.openstack.lab import TOP, Lab, everything
from tests.openstack.standins import FLAVOR, StandIn, StandIns

TEMPLATES = TOP / "heat_templates"
PATIENCE = 1500
WAIT = 900
"""Seconds that VMs have until they are ready."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a guest with CNSMO in it."""
    given = os.environ.get("CNSMO_GUEST_ROOT")
    if given:
        return Path(given)
    wheels = tmp_path_factory.mktemp("wheels")
    made = tmp_path_factory.mktemp("guest")
    for folder in (wheels, made):
        folder.chmod(0o755)
    try:
        return guest.files(made / "root", wheelhouse(wheels)[0])
    except MissingPackage as error:
        pytest.skip(f"no guests: {error}")


@pytest.fixture(scope="module")
def machines(
    lab: Lab,
    cloud: Connection,
    admin: Connection,
    empty_image: str,
    root: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[StandIns]:
    if admin.compute.find_flavor(FLAVOR) is None:
        admin.compute.create_flavor(name=FLAVOR, ram=64, vcpus=1, disk=1)
    made = StandIns(lab, cloud, root, tmp_path_factory.mktemp("machines"))
    yield made
    made.close()


class Stacks:
    """Heat's client, as an operator uses it."""

    def __init__(self, lab: Lab, cloud: Connection) -> None:
        self._lab = lab
        self._cloud = cloud
        self._names: list[str] = []

    def create(self, name: str, template: str, **parameters: object) -> None:
        self._names.append(name)
        self._lab.openstack("stack", "create", *_words(template, parameters), name)

    def update(self, name: str, template: str, **parameters: object) -> None:
        self._lab.openstack("stack", "update", *_words(template, parameters), name)

    def of(self, name: str) -> Any:
        found = self._cloud.orchestration.find_stack(name)
        return self._cloud.orchestration.get_stack(found.id) if found else None

    def ended(self, name: str) -> Any:
        """The stack, once it is complete or has failed."""
        eventually(
            lambda: not self.of(name).status.endswith("IN_PROGRESS"), PATIENCE, f"{name} ends"
        )
        return self.of(name)

    def outputs(self, name: str) -> dict[str, Any]:
        return {one["output_key"]: one["output_value"] for one in self.of(name).outputs}

    def delete(self, name: str) -> None:
        self._names.remove(name)
        self._lab.openstack("stack", "delete", "--yes", "--wait", name)

    def close(self) -> None:
        for name in list(self._names):
            self.delete(name)


def _words(template: str, parameters: Mapping[str, object]) -> list[str]:
    words = ["-t", str(TEMPLATES / template)]
    words += ["-e", str(TEMPLATES / "lib" / "environment.yaml")]
    for key, value in parameters.items():
        words += ["--parameter", f"{key}={value}"]
    return words


@pytest.fixture
def stacks(lab: Lab, cloud: Connection) -> Iterator[Stacks]:
    made = Stacks(lab, cloud)
    yield made
    made.close()


def told(machines: StandIns) -> dict[str, str]:
    """The end of what each machine says."""
    return machines.said | {one.name: one.console() for one in machines.machines.values()}


def fetched(url: str) -> str:
    """A page, or "" as long as there is none."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


@pytest.mark.timeout(3600)
def test_two_tiers_are_complete_when_their_agents_are_ready(
    stacks: Stacks, cloud: Connection, machines: StandIns
) -> None:
    before = everything(cloud)
    stacks.create(
        "shop",
        "examples/two_tier.yaml",
        image="empty",
        flavor=FLAVOR,
        external_network="public",
        web_servers=2,
        edges=1,
        wait=PATIENCE,
    )
    stack = stacks.ended("shop")
    assert stack.status == "CREATE_COMPLETE", (stack.status_reason, told(machines))
    core = machines.named("core")
    rows = core.run(*MANAGE, "agent", "list", "-f", "value", "-c", "host", "-c", "state")
    states = {tuple(line.split()) for line in rows.splitlines()}
    assert states == {("edge0", "ready"), ("web0", "ready"), ("web1", "ready")}
    address = stacks.outputs("shop")["url"]
    pages: set[str] = set()
    eventually(lambda: len(pages.add(fetched(address)) or pages - {""}) == 2, 120, "both serve")
    assert pages - {""} == {"hello from web0\n", "hello from web1\n"}
    stacks.delete("shop")
    eventually(lambda: machines.machines == {}, 60, "the machines are gone")
    after = everything(cloud)
    left = {kind: after[kind] - before[kind] for kind in after}
    assert not any(left.values()), left


@pytest.fixture
def network(cloud: Connection) -> Iterator[str]:
    """A network with a router, and nothing in it."""
    made = cloud.network.create_network(name="stack-lan")
    subnet = cloud.network.create_subnet(network_id=made.id, ip_version=4, cidr="10.7.0.0/24")
    router = cloud.network.create_router()
    cloud.network.add_interface_to_router(router, subnet=subnet.id)
    yield "stack-lan"
    cloud.network.remove_interface_from_router(router, subnet=subnet.id)
    cloud.network.delete_router(router)
    cloud.network.delete_network(made)


def services(core: StandIn) -> set[tuple[str, ...]]:
    """What is declared there: service and instance."""
    rows = core.run(*MANAGE, "service", "list", "-f", "value", "-c", "service", "-c", "name")
    return {tuple(line.split()) for line in rows.splitlines()}


@pytest.mark.timeout(2400)
def test_a_changed_document_is_in_force_when_the_stack_is_updated(
    stacks: Stacks, network: str, machines: StandIns
) -> None:
    """A core without a document is complete, too; a refused one fails the update."""
    given = {"image": "empty", "flavor": FLAVOR, "network": network, "deployment": "shop"}
    given["wait"] = str(WAIT)
    stacks.create("alone", "core.yaml", **given)
    stack = stacks.ended("alone")
    assert stack.status == "CREATE_COMPLETE", (stack.status_reason, told(machines))
    core = machines.named("core")
    assert services(core) == set()
    document = {"deployment": "shop", "vpn": {"backbone": {"cidr": "10.66.0.0/16"}}}
    firewall = {"perimeter": {"inbound": [{"name": "ping", "protocol": "icmp", "from": "any"}]}}
    for more, expected in (
        ({}, {("vpn", "backbone")}),
        ({"firewall": firewall}, {("vpn", "backbone"), ("firewall", "perimeter")}),
    ):
        stacks.update("alone", "core.yaml", **given, document=json.dumps({**document, **more}))
        stack = stacks.ended("alone")
        assert stack.status == "UPDATE_COMPLETE", (stack.status_reason, told(machines))
        assert services(core) == expected
    wrong = {"deployment": "shop", "vpn": {"backbone": {"cidr": "everywhere"}}}
    stacks.update("alone", "core.yaml", **given, document=json.dumps(wrong))
    stack = stacks.ended("alone")
    assert stack.status == "UPDATE_FAILED"
    assert "refused : " in stack.status_reason
    assert "vpn.backbone.cidr" in stack.status_reason
    assert services(core) == expected


@pytest.fixture
def attached(network: str, stacks: Stacks) -> Callable[..., Any]:
    """attached("name", core=..., ca=..., token=...): a stack of VMs that join that core."""

    def create(name: str, **parameters: object) -> Any:
        given = {"image": "empty", "flavor": FLAVOR, "network": network, "wait": WAIT}
        stacks.create(name, "agents.yaml", **given, **parameters)
        return stacks.ended(name)

    return create


@pytest.fixture
def core(lab: Lab, conf: cfg.ConfigOpts, door_port: int) -> Iterator[tuple[str, str]]:
    """A core in this process, where guests reach it: where they join, and its fingerprint."""
    made = make_authority(conf)
    conf.set_override("listen", lab.near, "join")
    conf.set_override("port", door_port, "join")
    server = CoreServer(conf)
    server.start()
    yield f"https://{lab.near}:{door_port}", made
    server.stop()


@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("machines")
def test_a_wrong_token_fails_the_stack_early_with_the_reason(
    core: tuple[str, str], attached: Callable[..., Any]
) -> None:
    began = time.monotonic()
    stack = attached("late", core=core[0], ca=core[1], token="t-000000000000.wrong")
    assert stack.status == "CREATE_FAILED"
    assert "agent0: the join token is not valid (any more)" in stack.status_reason
    assert time.monotonic() - began < WAIT, "before the time for it is over"
