# SPDX-License-Identifier: Apache-2.0
"""A cloud of systemd-nspawn machines, a wheelhouse of this tree, and a core that booted there."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cnsmo.boot import render
from tests.beds import MissingPackage, image
from tests.beds.nspawn import Cloud
from tests.booting import Core, source_of, wheelhouse

DOCUMENT = """\
deployment: shop
vpn:
  backbone: {cidr: 10.66.0.0/16}
firewall:
  perimeter:
    inbound:
      - {name: ping, protocol: icmp, icmp: echo-request, via: backbone}
"""


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A wheelhouse, and the digest of its requirements."""
    return wheelhouse(tmp_path_factory.mktemp("wheels"))


@pytest.fixture(scope="session")
def machine_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a machine."""
    folder = tmp_path_factory.mktemp("image")
    folder.chmod(0o755)
    try:
        image.make(folder)
    except MissingPackage as error:
        pytest.skip(f"no machines: {error}")
    return folder


@pytest.fixture(scope="session")
def source(wheels: tuple[Path, str]) -> dict[str, str]:
    """The parameters that say what to install."""
    return source_of(wheels)


@pytest.fixture(scope="session")
def cloud(
    machine_image: Path, wheels: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cloud]:
    made = Cloud(machine_image, wheels[0], tmp_path_factory.mktemp("cloud"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def core(cloud: Cloud, source: dict[str, str]) -> Core:
    parameters = {"cnsmo_deployment": "shop", "cnsmo_groups": "web=3", **source}
    machine = cloud.boot("core", render.template("core"), parameters)
    signal = cloud.signal("core", timeout=420)
    assert signal["status"] == "SUCCESS", (signal, machine.console())
    return Core(machine, signal["data"])


@pytest.fixture(scope="session")
def baked(core: Core, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an image has where CNSMO is installed in it already."""
    layer = tmp_path_factory.mktemp("baked")
    layer.chmod(0o755)
    (layer / "opt").mkdir(mode=0o755)
    core.machine.copy("/opt/cnsmo", layer / "opt")
    return layer
