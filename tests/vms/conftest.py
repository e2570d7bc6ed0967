# SPDX-License-Identifier: Apache-2.0
"""A core and two VMs with kernels of their own, told about themselves as clouds do it.

Nothing of CNSMO is in their image, and nothing that its services need: it comes from an archive of
packages and a wheelhouse.
"""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from cnsmo.boot import render
from tests.beds import MissingPackage, disk
from tests.beds.qemu import Cloud, Machine
from tests.booting import Core, source_of, wheelhouse

VERSIONS = {"bookworm": "3.11", "trixie": "3.13"}
"""Of the Python of a release."""
CLOUDS = {"debian-12-metadata": ("bookworm", False), "debian-13-configdrive": ("trixie", True)}
"""A release, and whether its machines have a ConfigDrive; else they ask the metadata service."""
PATIENCE = 2400
"""Seconds in which a VM is ready: what is emulated on a busy machine takes its time."""
DOCUMENT = """\
deployment: shop
vpn:
  backbone: {cidr: 10.66.0.0/16}
firewall:
  perimeter:
    inbound:
      - {name: ping, protocol: icmp, icmp: echo-request, via: backbone}
      - {name: www, from: any, to: edge, protocol: tcp, ports: 80}
      - {name: pool, from: edge, to: web, protocol: tcp, ports: 8080, via: backbone}
loadbalancer:
  www:
    on: edge
    listen: 80
    pool: {group: web, port: 8080, via: backbone}
    check: {http: /, interval: 2s, timeout: 2s}
"""
WEB = """\
#!/bin/sh
set -e
mkdir -p /srv/www
echo "hello from $(hostname)" >/srv/www/index.html
systemd-run --unit=www --working-directory=/srv/www --property=Restart=always \\
    --property=DynamicUser=yes python3 -m http.server 8080
"""
FETCH = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=5).read().decode())"


@dataclass
class Vms:
    """A deployment in them."""

    cloud: Cloud
    core: Core
    edge: Machine
    web: Machine

    @property
    def hosts(self) -> list[Machine]:
        """Those with agents."""
        return [self.edge, self.web]

    def fetch(self, url: str) -> str:
        """What somebody beside them gets; "" when nobody answers."""
        words = self.cloud.inside(sys.executable, "-c", FETCH, url)
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        return done.stdout.strip()


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """For both releases."""
    return wheelhouse(tmp_path_factory.mktemp("wheels"), sorted(VERSIONS.values()))


@pytest.fixture(scope="session", params=CLOUDS.values(), ids=CLOUDS.keys())
def vms(
    request: pytest.FixtureRequest,
    wheels: tuple[Path, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Vms]:
    release, config_drive = request.param
    try:
        made = disk.make(tmp_path_factory.mktemp("disks"), release)
        place = tmp_path_factory.mktemp(release)
        cloud = Cloud(place, {"wheels": wheels[0], f"archive-{release}": made.archive})
    except MissingPackage as error:
        pytest.skip(f"no VMs: {error}")
    try:
        yield started(cloud, made, config_drive, source_of(wheels))
    finally:
        cloud.close()


def started(cloud: Cloud, made: disk.Disk, config_drive: bool, source: dict[str, str]) -> Vms:
    """A core with its document, then who joins it; all have said that they are ready."""
    how = {"config_drive": config_drive}
    source = source | {"cnsmo_wait": str(PATIENCE)}
    told = {"cnsmo_deployment": "shop", "cnsmo_groups": "edge=1,web=1", **source}
    parts = render.multipart(render.template("core"), [document()])
    cloud.boot("core", made, parts, told, memory=1280, config_drive=config_drive)
    core = Core(cloud.machines["core"], ready(cloud, "core"))
    for name, group, services in (
        ("edge1", "edge", "vpn,firewall,loadbalancer"),
        ("web1", "web", "vpn,firewall"),
    ):
        told = core.joining(core.tokens[group], services) | source
        text = render.template("agent")
        text = render.multipart(text, [WEB]) if group == "web" else text
        cloud.boot(name, made, text, told, **how)
    for name in ("edge1", "web1"):
        ready(cloud, name)
    return Vms(cloud, core, cloud.machines["edge1"], cloud.machines["web1"])


def ready(cloud: Cloud, name: str) -> dict[str, str]:
    """What a VM says that is ready."""
    signal = cloud.signal(name, timeout=PATIENCE)
    assert signal["status"] == "SUCCESS", (signal, cloud.machines[name].console())
    return signal["data"]


def document() -> str:
    """As a part of the core's user-data, for a cloud without Heat."""
    file = {"path": "/etc/cnsmo/document.yaml", "permissions": "0600", "content": DOCUMENT}
    how = "list(append)+dict(no_replace,recurse_list)+str()"
    return "#cloud-config\n" + yaml.safe_dump({"merge_how": how, "write_files": [file]})
