# SPDX-License-Identifier: Apache-2.0
"""Whole machines, real systemd and real cloud-init in them, on the kernel of this one.

A cloud is a network namespace with a bridge, DHCP and a metadata service; a machine boots from an
overlay of the image, in namespaces and a cgroup of its own. All of it is gone after `close()`.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.beds.process import ServerProcess
from tests.eventually import eventually

SERVICE = Path(__file__).with_name("metadata_service.py")
GATEWAY, METADATA = "10.78.0.1", "169.254.169.254"
CGROUPS = [Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup/systemd"), Path("/sys/fs/cgroup")]
"""Where a host may have its hierarchies: both, or one of its own."""
FRESH_CGROUPS = 'mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$@"'
"""For a shell, in namespaces of its own: systemd in a machine wants one hierarchy."""
ENVIRONMENT = {
    "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
    "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",
}


def run(*words: str, check: bool = True) -> str:
    """Run a program here."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(words)}: {done.stdout}{done.stderr}")
    return done.stdout


class Cloud:
    """A network, and the services that a cloud has there."""

    def __init__(self, image: Path, wheels: Path, directory: Path) -> None:
        self.image = image
        self.directory = directory
        self.name = f"cnsmo{uuid.uuid4().hex[:6]}"
        self.machines: dict[str, Machine] = {}
        self._signals = directory / "signals"
        self._signals.touch()
        (directory / "wheels").symlink_to(wheels)
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
        command = ["ip", "netns", "exec", self.name, *words]
        log = self.directory / f"{what}.log"
        self._processes.append(ServerProcess(command, log=log, env=os.environ))

    def boot(
        self, name: str, user_data: str, metadata: dict[str, str], layer: Path | None = None
    ) -> "Machine":
        """A machine with a signal of its own; it has just been switched on.

        layer: files that its image has beside those of all.
        """
        number = 10 + len(self.machines)
        image = [layer, self.image] if layer else [self.image]
        address, mac = f"10.78.0.{number}", f"52:54:00:78:00:{number:02x}"
        machine = Machine(self, name, address, mac, image)
        signal = {"cnsmo_signal": f"http://{METADATA}/signal/{name}"}
        self._told[machine.address] = {
            "meta_data.json": {
                "uuid": str(uuid.uuid4()),
                "name": name,
                "hostname": f"{name}.novalocal",
                "meta": {**signal, **metadata},
            },
            "user_data": user_data,
            "network_data.json": network_data(machine),
            "vendor_data.json": {},
            "ec2": {"local-ipv4": machine.address},
        }
        self._write()
        (self._hosts() / name).write_text(f"{machine.mac},{machine.address}\n")
        self.machines[name] = machine
        machine.start()
        return machine

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
            lambda: len(self.signals(name)) > after or not machine.alive, timeout, f"{name} signals"
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


class Machine:
    """One machine; its disk outlives its boots."""

    def __init__(
        self, cloud: Cloud, name: str, address: str, mac: str, image: Sequence[Path]
    ) -> None:
        self.cloud = cloud
        self.name = name
        self.address = address
        self.mac = mac
        self._label = f"{cloud.name}-{name}"
        self._place = cloud.directory / "machines" / name
        for part in ("upper", "work", "root"):
            (self._place / part).mkdir(parents=True)
            (self._place / part).chmod(0o755)  # whatever the umask takes away
        self._root = self._place / "root"
        self._process: ServerProcess | None = None
        upper, work = self._place / "upper", self._place / "work"
        below = ":".join(map(str, image))
        layers = f"lowerdir={below},upperdir={upper},workdir={work}"
        run("mount", "-t", "overlay", "overlay", "-o", layers, str(self._root))

    @property
    def alive(self) -> bool:
        """Whether it is switched on."""
        return self._process is not None and self._process.alive

    def start(self) -> None:
        """Switch it on."""
        self._plug_in()
        nspawn = [
            *("systemd-nspawn", "--quiet", "--machine", self._label, "--boot"),
            *("--directory", str(self._root), "--register=no", "--keep-unit"),
            *("--console=read-only", "--capability=CAP_NET_ADMIN", "--bind=/dev/net/tun"),
            "--setenv=product_name=OpenStack Nova",
        ]
        inside = ["ip", "netns", "exec", self._label, "sh", "-c", FRESH_CGROUPS, "sh", *nspawn]
        self._process = ServerProcess(
            ["sh", "-c", self._enter_cgroups() + 'exec "$@"', "sh", *inside],
            log=self._place / "console",
            env={**os.environ, **ENVIRONMENT},
        )

    def _plug_in(self) -> None:
        run("ip", "netns", "del", self._label, check=False)
        run("ip", "netns", "add", self._label)
        outside = f"v-{self.name}"[:15]
        run("ip", "-n", self.cloud.name, "link", "del", outside, check=False)
        inside = ("peer", "name", "ens3", "address", self.mac, "netns", self._label)
        run("ip", "-n", self.cloud.name, "link", "add", outside, "type", "veth", *inside)
        run("ip", "-n", self.cloud.name, "link", "set", outside, "master", "br0", "up")

    def _groups(self) -> list[Path]:
        return [path / self._label for path in CGROUPS if (path / "cgroup.procs").exists()]

    def _enter_cgroups(self) -> str:
        """For a shell: go into groups of the machine's own."""
        lines = ["umask 022; "]
        for group in self._groups()[:2]:
            group.mkdir(exist_ok=True)
            lines.append(f"echo 0 >{group}/cgroup.procs; ")
        return "".join(lines)

    def _leader(self) -> int:
        """The process that is number 1 in there."""
        for pid in self._process.family if self._process else ():
            with contextlib.suppress(OSError):
                if _is_first(Path("/proc", str(pid))):
                    return pid
        raise AssertionError(f"{self.name} is not running: {self.console()}")

    def run(self, *words: str, check: bool = True) -> str:
        """Run a program in it."""
        enter = ("nsenter", "-t", str(self._leader()), "-m", "-u", "-i", "-n", "-p", "-C", "--")
        return run(*enter, *words, check=check)

    def read(self, path: str) -> str:
        """A file of its disk; "" when it is not there."""
        there = self._root / path.lstrip("/")
        return there.read_text(errors="replace") if there.exists() else ""

    def copy(self, path: str, into: Path) -> None:
        """A directory of its disk, with all owners and modes."""
        run("cp", "-a", str(self._root / path.lstrip("/")), str(into))

    def console(self) -> str:
        """The end of what it said."""
        return (
            self.read("/var/log/cloud-init-output.log")[-3000:]
            or ((self._place / "console").read_text(errors="replace")[-3000:])
        )

    def booted(self, timeout: float = 300) -> None:
        """Wait until cloud-init is done with this boot."""
        eventually(lambda: self.status() in ("done", "error"), timeout, f"{self.name} boots")

    def status(self) -> str:
        """What cloud-init says of it."""
        try:
            told = self.run("cloud-init", "status", check=False)
        except AssertionError:
            return ""
        return told.partition("status:")[2].strip().partition("\n")[0]

    def write(self, path: str, text: str, mode: int = 0o600) -> None:
        """A file of its disk."""
        there = self._root / path.lstrip("/")
        there.write_text(text)
        there.chmod(mode)

    def restart(self) -> None:
        """Reboot it: down in an orderly way, and up again. nspawn ends with 133 for that."""
        assert self._process is not None
        self.run("systemctl", "reboot", check=False)
        self._process.wait(90)
        self.start()

    def power_off(self) -> None:
        """As ACPI's button would."""
        assert self._process is not None
        self.run("systemctl", "poweroff", check=False)
        self._process.wait(90)

    def close(self) -> None:
        """End it, and take its disk away."""
        if self._process is not None:
            self._process.stop(signal.SIGKILL, 30)  # its disk goes, too
        run("umount", "-l", str(self._root), check=False)
        run("ip", "netns", "del", self._label, check=False)
        for group in self._groups():
            for found in sorted(group.rglob("*/"), reverse=True):
                with contextlib.suppress(OSError):
                    found.rmdir()
            with contextlib.suppress(OSError):
                group.rmdir()
        shutil.rmtree(self._place, ignore_errors=True)


def _is_first(process: Path) -> bool:
    """Whether it is number 1 in a namespace of its own."""
    for line in (process / "status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "NSpid":
            return value.split()[1:] == ["1"]
    return False


def network_data(machine: Machine) -> dict[str, Sequence[Any]]:
    """As Neutron tells it."""
    link = {"id": "tap0", "type": "phy", "ethernet_mac_address": machine.mac, "mtu": 1500}
    routes = [{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": GATEWAY}]
    address = {"ip_address": machine.address, "netmask": "255.255.255.0", "routes": routes}
    network = {"id": "net0", "type": "ipv4", "link": "tap0", **address}
    return {"links": [link], "networks": [network], "services": []}
