# SPDX-License-Identifier: Apache-2.0
"""A real OpenStack for tests: the one that $CNSMO_OPENSTACK_LAB names, or one of their own."""

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import openstack
from openstack.connection import Connection

from tests.beds.bed import MissingPackage

TOP = Path(__file__).parents[2]
PROGRAM = TOP / "tools" / "openstack-lab"
GIVEN = "CNSMO_OPENSTACK_LAB"
NEEDS = {
    "mariadbd": "mariadb-server",
    "rabbitmqctl": "rabbitmq-server",
    "libvirtd": "libvirt-daemon",
    "qemu-system-x86_64": "qemu-system-x86",
    "genisoimage": "genisoimage",
    "dnsmasq": "dnsmasq-base",
    "mke2fs": "e2fsprogs",
}


@dataclasses.dataclass(frozen=True)
class Lab:
    """Where it is."""

    directory: Path
    own: bool

    @classmethod
    def found(cls, scratch: Path) -> "Lab":
        """The one that is given; else a new one, which is started. Raises MissingPackage."""
        given = os.environ.get(GIVEN)
        if given:
            return cls(Path(given), own=False)
        if os.geteuid() != 0:
            raise MissingPackage("an OpenStack lab needs root")
        for program, package in NEEDS.items():
            if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None:
                raise MissingPackage(f"package {package} is not installed")
        made = cls(scratch / "lab", own=True)
        try:
            made.run("start", "--virt", "libvirt", "--octavia")
        except AssertionError:
            made.close()  # what it said is in the error
            raise
        return made

    @property
    def clouds(self) -> Path:
        return self.directory / "clouds.yaml"

    def run(self, *words: str) -> str:
        """A command of tools/openstack-lab."""
        command = [PROGRAM, "--directory", self.directory, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (words, done.stdout[-2000:], done.stderr[-3000:])
        return done.stdout

    def inside(self, *words: str, check: bool = True) -> str:
        """A program in the lab's network, where guests are."""
        command = [PROGRAM, "--directory", self.directory, "exec", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if check:
            assert done.returncode == 0, (words, done.stdout[-2000:], done.stderr[-2000:])
        return done.stdout

    @property
    def netns(self) -> str:
        """The network namespace that all of it lives in; as openstacklab/place.py names it."""
        return f"cnsmo-os-{hashlib.sha256(str(self.directory.resolve()).encode()).hexdigest()[:6]}"

    @property
    def near(self) -> str:
        """This machine's address, for guests."""
        told = self.inside("ip", "-j", "route", "show", "default")
        return str(json.loads(told)[0]["gateway"])

    def instance(self, ident: str) -> Path:
        """Where Nova keeps what a server boots from."""
        return self.directory / "state" / "nova" / "instances" / ident

    def openstack(self, *words: str) -> str:
        """The command of that name, as an ordinary user."""
        done = subprocess.run([PROGRAM, "--directory", self.directory, "cli", *words],
                              capture_output=True, text=True, check=False)  # fmt: skip
        assert done.returncode == 0, (words, done.stdout[-2000:], done.stderr[-3000:])
        return done.stdout

    def connect(self, name: str) -> Connection:
        return openstack.connect(cloud=name)

    def close(self) -> None:
        if self.own:
            self.run("stop")


def everything(cloud: Connection) -> dict[str, set[str]]:
    """All things of a project that tests may leave behind, by kind."""
    network, balancer = cloud.network, cloud.load_balancer
    lists: dict[str, Any] = {
        "server": cloud.compute.servers(),
        "port": network.ports(),
        "network": network.networks(shared=False),
        "router": network.routers(),
        "floating IP": network.ips(),
        "security group": network.security_groups(),
        "address group": network.address_groups(),
        "load balancer": balancer.load_balancers(),
    }
    return {kind: {f"{one.name} {one.id}" for one in found} for kind, found in lists.items()}
