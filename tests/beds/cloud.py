# SPDX-License-Identifier: Apache-2.0
"""What a cloud is to its machines: a network, DHCP, and a metadata service as Nova's is.

All of it lives in a network namespace and is gone after `close()`.
"""

import abc
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.beds.process import ServerProcess
from tests.eventually import eventually

SERVICE = Path(__file__).with_name("metadata_service.py")
LOOK = 0.2
"""Seconds between two looks at a machine that boots, which wants the processor for itself."""
GATEWAY, METADATA = "10.78.0.1", "169.254.169.254"


def run(*words: str, check: bool = True, timeout: float | None = None) -> str:
    """Run a program here."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=timeout)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(words)}: {done.stdout}{done.stderr}")
    return done.stdout


class Cloud:
    """A network, and the services that a cloud has there.

    served: directories that its metadata service hands out, beside what it tells each machine.
    """

    def __init__(self, directory: Path, served: Mapping[str, Path]) -> None:
        self.directory = directory
        self.name = f"cnsmo{uuid.uuid4().hex[:6]}"
        self.machines: dict[str, Machine] = {}
        self._signals = directory / "signals"
        self._signals.touch()
        for name, place in served.items():
            (directory / name).symlink_to(place)
        self._told: dict[str, dict[str, Any]] = {}
        self._write()
        self._processes: list[ServerProcess] = []
        self._begin()

    def _begin(self) -> None:
        run("ip", "netns", "add", self.name)
        for words in (
            "link set lo up",
            "link add br0 type bridge",
            f"addr add {GATEWAY}/24 dev br0",
            f"addr add {METADATA}/32 dev br0",
            "link set br0 up",
        ):
            run("ip", "-n", self.name, *words.split())
        self._start("metadata", sys.executable, str(SERVICE), str(self.directory))
        options = ("--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=br0")
        self._start(
            "dhcp",
            *(
                "dnsmasq",
                *options,
                "--bind-interfaces",
                f"--dhcp-leasefile={self.directory}/leases",
            ),
            *("--dhcp-range=10.78.0.10,static,255.255.255.0", "--dhcp-ignore-names"),
            f"--dhcp-hostsdir={self._hosts()}",
            f"--dhcp-option=121,0.0.0.0/0,{GATEWAY},{METADATA}/32,{GATEWAY}",
        )

    def _hosts(self) -> Path:
        path = self.directory / "hosts"
        path.mkdir(exist_ok=True)
        return path

    def _start(self, what: str, *words: str) -> None:
        log = self.directory / f"{what}.log"
        self._processes.append(ServerProcess(self.inside(*words), log=log, env=os.environ))

    def inside(self, *words: str) -> list[str]:
        """A command as one in the cloud's network would give it, beside its machines."""
        return ["ip", "netns", "exec", self.name, *words]

    def place(self) -> tuple[str, str]:
        """An address and a MAC that no machine has."""
        number = 10 + len(self.machines)
        return f"10.78.0.{number}", f"52:54:00:78:00:{number:02x}"

    def switch_on(
        self,
        machine: "Machine",
        user_data: str,
        metadata: Mapping[str, str],
        keys: Mapping[str, str] | None = None,
    ) -> None:
        """Start a machine of this cloud, which is told these things and where to signal.

        keys: SSH keys, by name.
        """
        signal = {"cnsmo_signal": f"http://{METADATA}/signal/{machine.name}"}
        told = {
            "meta_data.json": {
                "uuid": str(uuid.uuid4()),
                "name": machine.name,
                "hostname": f"{machine.name}.novalocal",
                "meta": {**signal, **metadata},
                "public_keys": dict(keys or {}),
            },
            "user_data": user_data,
            "network_data.json": network_data(machine),
            "vendor_data.json": {},
        }
        machine.tell(told)
        (self._hosts() / machine.name).write_text(f"{machine.mac},{machine.address}\n")
        self.machines[machine.name] = machine
        machine.start()

    def answer(self, machine: "Machine", told: Mapping[str, Any]) -> None:
        """The metadata service tells a machine this from now on."""
        ec2 = {"local-ipv4": machine.address}
        self._told[machine.address] = {**told, "ec2": ec2}
        self._write()

    def tell(self, machine: "Machine", **ec2: str) -> None:
        """The metadata service says that, too, from now on."""
        self._told[machine.address]["ec2"].update(
            {name.replace("_", "-"): value for name, value in ec2.items()}
        )
        self._write()

    def _write(self) -> None:
        draft = self.directory / "instances.new"
        draft.write_text(json.dumps(self._told))
        draft.replace(self.directory / "instances.json")

    def signals(self, name: str) -> list[dict[str, Any]]:
        """What a machine has signalled."""
        lines = self._signals.read_text().splitlines()
        return [line["body"] for line in map(json.loads, lines) if line["who"] == name]

    def signal(self, name: str, timeout: float = 300, after: int = 0) -> dict[str, Any]:
        """A machine's signal, once it has come. after: how many came before."""
        machine = self.machines[name]
        found = eventually(
            lambda: len(self.signals(name)) > after or not machine.alive,
            timeout,
            f"{name} signals",
            every=LOOK,
        )
        assert found
        assert len(self.signals(name)) > after, machine.console()
        return self.signals(name)[after]

    def close(self) -> None:
        """End everything."""
        for machine in self.machines.values():
            machine.close()
        for process in self._processes:
            process.stop(signal.SIGTERM, 10)
        run("ip", "netns", "del", self.name, check=False)


class Machine(abc.ABC):
    """One machine of a cloud; its disk outlives its boots."""

    def __init__(self, cloud: Cloud, name: str) -> None:
        self.cloud = cloud
        self.name = name
        self.address, self.mac = cloud.place()
        self._process: ServerProcess | None = None

    @property
    def alive(self) -> bool:
        """Whether it is switched on."""
        return self._process is not None and self._process.alive

    def tell(self, told: Mapping[str, Any]) -> None:
        """Let it know this about itself, when it boots: by the metadata service."""
        self.cloud.answer(self, told)

    @abc.abstractmethod
    def start(self) -> None:
        """Switch it on."""

    @abc.abstractmethod
    def run(self, *words: str, check: bool = True) -> str:
        """Run a program in it, as root."""

    @abc.abstractmethod
    def console(self) -> str:
        """The end of what it said."""

    @abc.abstractmethod
    def close(self) -> None:
        """End it, and take its disk away."""

    def booted(self, timeout: float = 300) -> None:
        """Wait until cloud-init is done with this boot."""
        done = ("done", "error")
        eventually(lambda: self.status() in done, timeout, f"{self.name} boots", every=LOOK)

    def status(self) -> str:
        """What cloud-init says of it."""
        try:
            told = self.run("cloud-init", "status", check=False)
        except AssertionError:
            return ""
        return told.partition("status:")[2].strip().partition("\n")[0]


def network_data(machine: Machine) -> dict[str, Any]:
    """As Neutron tells it."""
    link = {"id": "tap0", "type": "phy", "ethernet_mac_address": machine.mac, "mtu": 1500}
    routes = [{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": GATEWAY}]
    address = {"ip_address": machine.address, "netmask": "255.255.255.0", "routes": routes}
    network = {"id": "net0", "type": "ipv4", "link": "tap0", **address}
    return {"links": [link], "networks": [network], "services": []}
