# SPDX-License-Identifier: Apache-2.0
"""Whole virtual machines with a kernel of their own: QEMU, its processor emulated (TCG).

Nothing here needs KVM. Such a machine is 5 to 10 times slower than one of a cloud.
"""

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.beds import cloud
from tests.beds.bed import MissingPackage
from tests.beds.cloud import LOOK, run
from tests.beds.disk import Disk
from tests.beds.process import ServerProcess
from tests.eventually import eventually

PROGRAM = "qemu-system-x86_64"
HARDWARE = [
    *("-machine", "q35", "-accel", "tcg,thread=multi,tb-size=128", "-cpu", "qemu64", "-smp", "1"),
    *("-display", "none", "-nodefaults", "-device", "virtio-rng-pci"),
]
APPEND = "console=ttyS0 root=/dev/vda rw mitigations=off init_on_alloc=0 net.ifnames=0"
NOVA = "type=1,manufacturer=OpenStack Foundation,product=OpenStack Nova"
USER = "debian"
"""Whom cloud-init of Debian gives the SSH keys to."""
SSH = [
    *("-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR"),
    *("-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=20"),
    *("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4"),
]
FORGET = """\
systemctl disable --now cnsmo-agent cnsmo-firewall
rm -rf /etc/cnsmo /var/lib/cnsmo /etc/systemd/system/cnsmo-*
rm -f /etc/ssh/ssh_host_*
cloud-init clean --logs --seed
: >/etc/machine-id
"""
"""For a shell: no trace of who it was; what is installed stays."""
PATIENCE = 300.0
"""Seconds in which a program in a machine ends, and a machine shuts down."""


class Baked(Disk):
    """What a machine was made into: an overlay of the disk that it booted from."""

    @property
    def system(self) -> Path:
        return self.folder / "system.qcow2"


class Cloud(cloud.Cloud):
    """A cloud of such machines; all have one SSH key.

    Raises MissingPackage where QEMU, or what else they need, is not installed.
    """

    def __init__(self, directory: Path, served: Mapping[str, Path]) -> None:
        for program, package in (
            (PROGRAM, "qemu-system-x86"),
            ("qemu-img", "qemu-utils"),
            ("genisoimage", "genisoimage"),
            ("ssh", "openssh-client"),
        ):
            if not shutil.which(program):
                raise MissingPackage(f"package {package} is not installed")
        super().__init__(directory, served)
        self.key = directory / "key"
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key))

    def boot(
        self,
        name: str,
        disk: Disk,
        user_data: str,
        metadata: Mapping[str, str],
        *,
        memory: int = 768,
        config_drive: bool = False,
    ) -> "Machine":
        """A machine with a signal of its own; it has just been switched on.

        memory: MiB. config_drive: it is told about itself by a disk, not by the metadata service.
        """
        machine = Machine(self, name, disk, memory, config_drive)
        keys = {"tests": self.key.with_suffix(".pub").read_text().strip()}
        self.switch_on(machine, user_data, metadata, keys)
        return machine


class Machine(cloud.Machine):
    """One VM; its disk outlives its boots."""

    cloud: Cloud

    def __init__(
        self, owner: Cloud, name: str, disk: Disk, memory: int, config_drive: bool
    ) -> None:
        super().__init__(owner, name)
        self._disk = disk
        self._memory = memory
        self._config_drive = config_drive
        self._place = owner.directory / "machines" / name
        self._place.mkdir(parents=True)
        self._serial = self._place / "serial"
        self._door = self._place / "ssh"
        self._session: ServerProcess | None = None
        kind = "qcow2" if disk.system.suffix == ".qcow2" else "raw"
        image = ("-f", "qcow2", "-F", kind, "-b", str(disk.system))
        run("qemu-img", "create", "-q", *image, str(self._place / "disk"))
        tap = ("tuntap", "add", self._tap, "mode", "tap")
        run("ip", "-n", owner.name, *tap)
        run("ip", "-n", owner.name, "link", "set", self._tap, "master", "br0", "up")

    @property
    def _tap(self) -> str:
        return f"t-{self.name}"[:15]

    def tell(self, told: Mapping[str, Any]) -> None:
        """By the metadata service, or by a ConfigDrive."""
        if not self._config_drive:
            super().tell(told)
            return
        drive = self._place / "drive"
        for version in ("2018-08-27", "latest"):
            folder = drive / "openstack" / version
            folder.mkdir(parents=True)
            for name, value in told.items():
                text = value if isinstance(value, str) else json.dumps(value)
                (folder / name).write_text(text)
        iso = str(self._place / "drive.iso")
        run("genisoimage", "-quiet", "-o", iso, "-V", "config-2", "-J", "-r", str(drive))

    def start(self) -> None:
        """Switch it on."""
        net = f"tap,id=n0,ifname={self._tap},script=no,downscript=no"
        disk = f"file={self._place / 'disk'},if=virtio,format=qcow2,cache=unsafe,discard=unmap"
        words = [
            *(PROGRAM, "-name", self.name, *HARDWARE, "-m", str(self._memory)),
            *("-kernel", str(self._disk.kernel), "-initrd", str(self._disk.initrd)),
            *("-append", APPEND, "-drive", disk),
            *("-netdev", net, "-device", f"virtio-net-pci,netdev=n0,mac={self.mac}"),
            *("-serial", f"file:{self._serial}"),
            *("-qmp", f"unix:{self._place / 'qmp'},server=on,wait=off"),
        ]
        if self._config_drive:
            iso = self._place / "drive.iso"
            words += ["-drive", f"file={iso},if=virtio,format=raw,readonly=on"]
        else:
            words += ["-smbios", NOVA]
        log = self._place / "qemu"
        self._process = ServerProcess(self.cloud.inside(*words), log=log, env=os.environ)

    def cpu(self) -> float:
        """Seconds of processor time that it has taken since it was switched on."""
        ticks = 0
        for pid in self._process.family if self._process else ():
            fields = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def run(self, *words: str, check: bool = True) -> str:
        """Run a program in it, as root, over SSH."""
        self._enter()
        command = shlex.join(["sudo", "--", *words])
        return run(*self._ssh("-S", str(self._door)), command, check=check, timeout=PATIENCE)

    def _ssh(self, *options: str) -> list[str]:
        there = f"{USER}@{self.address}"
        return self.cloud.inside("ssh", "-i", str(self.cloud.key), *SSH, *options, there)

    def _enter(self) -> None:
        """One session for all that is run: to log in costs such a machine seconds."""
        eventually(self._entered, PATIENCE, f"{self.name} lets its user in", every=LOOK)

    def _entered(self) -> bool:
        assert self.alive, self.console()
        if self._session is None or not self._session.alive:
            self._door.unlink(missing_ok=True)
            words = self._ssh("-M", "-N", "-S", str(self._door))
            log = self._place / "session"
            self._session = ServerProcess(words, log=log, env=os.environ)
        try:
            session = self._session
            return bool(eventually(lambda: self._door.exists() or not session.alive, 30))
        except AssertionError:
            self._leave()
            return False

    def _leave(self) -> None:
        if self._session is not None:
            self._session.stop(signal.SIGTERM, 5)
        self._session = None
        self._door.unlink(missing_ok=True)

    def said(self) -> str:
        """All that came over its serial console."""
        return self._serial.read_text(errors="replace") if self._serial.exists() else ""

    def console(self) -> str:
        """The end of what it said."""
        return self.said()[-4000:] + (self._place / "qemu").read_text(errors="replace")[-500:]

    def write(self, path: str, text: str, mode: int = 0o600) -> None:
        """A file of its disk."""
        self._enter()
        place = shlex.quote(path)
        command = f"sudo sh -c 'cat >{place} && chmod {mode:o} {place}'"
        words = [*self._ssh("-S", str(self._door)), command]
        subprocess.run(words, input=text, text=True, check=True, timeout=PATIENCE)

    def bake(self, folder: Path) -> Disk:
        """Make an image of it: switched off, it knows nothing any more of its own boot."""
        self.run("sh", "-c", FORGET)
        self.power_off()
        folder.mkdir()
        shutil.copy(self._place / "disk", folder / "system.qcow2")
        for path in (self._disk.kernel, self._disk.initrd):
            (folder / path.name).symlink_to(path)
        return Baked(folder)

    def restart(self) -> None:
        """Reboot it: down in an orderly way, and up again."""
        self.power_off()
        self.start()

    def power_off(self) -> None:
        """Press its power button (ACPI)."""
        assert self._process is not None
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.connect(str(self._place / "qmp"))
            with monitor.makefile("rw") as said:
                said.readline()
                for command in ("qmp_capabilities", "system_powerdown"):
                    said.write(json.dumps({"execute": command}) + "\n")
                    said.flush()
                    said.readline()
        self._process.wait(PATIENCE)
        self._leave()

    def close(self) -> None:
        """End it, and take its disk away."""
        self._leave()
        if self._process is not None:
            self._process.kill()  # its disk goes, too
        shutil.rmtree(self._place, ignore_errors=True)
