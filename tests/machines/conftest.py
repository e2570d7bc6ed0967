# SPDX-License-Identifier: Apache-2.0
"""A cloud of systemd-nspawn machines, a wheelhouse of this tree, and a core that booted there."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cnsmo.boot import render
from tests.beds import MissingPackage, image
from tests.beds.nspawn import METADATA, Cloud, Machine

TOP = Path(__file__).parents[2]
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
    given = os.environ.get("CNSMO_WHEELHOUSE")
    folder = Path(given) if given else tmp_path_factory.mktemp("wheels")
    made = subprocess.run(
        [TOP / "tools" / "wheelhouse.sh", folder], capture_output=True, text=True, check=True
    )
    return folder, made.stdout.split()[-1]


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
    place = f"http://{METADATA}/wheels/"
    return {
        "cnsmo_requirements": f"{place}requirements.txt",
        "cnsmo_requirements_sha256": wheels[1],
        "cnsmo_wheelhouse": place,
    }


@pytest.fixture(scope="session")
def cloud(
    machine_image: Path, wheels: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cloud]:
    made = Cloud(machine_image, wheels[0], tmp_path_factory.mktemp("cloud"))
    yield made
    made.close()


class Core:
    """A core that booted from user-data, and what it told."""

    def __init__(self, machine: Machine, told: dict[str, Any]) -> None:
        self.machine = machine
        self.url = str(told["core"])
        self.ca = str(told["ca"])
        self.tokens: dict[str, str] = told["tokens"]

    def manage(self, *words: str) -> str:
        """Run cnsmo-manage there."""
        account = ("runuser", "-u", "cnsmo", "--", "/opt/cnsmo/bin/cnsmo-manage")
        return self.machine.run(*account, *words)

    def rows(self, *words: str) -> list[dict[str, Any]]:
        """What a list of cnsmo-manage holds."""
        return list(json.loads(self.manage(*words, "-f", "json")))

    def state(self, host: str) -> set[str]:
        """The states of a host's agents."""
        return {row["state"] for row in self.rows("agent", "list") if row["host"] == host}

    def endpoint(self, host: str) -> str:
        """Where others call a host."""
        (found,) = (row["endpoint"] for row in self.rows("host", "list") if row["name"] == host)
        return str(found)

    def token(self, *words: str) -> str:
        """A new token, for one host."""
        return self.manage("token", "create", *words, "-f", "value", "-c", "token").strip()

    def token_status(self, token: str) -> str:
        """Whether it can be used."""
        ident = token.partition(".")[0]
        (found,) = (row["status"] for row in self.rows("token", "list") if row["id"] == ident)
        return str(found)


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
