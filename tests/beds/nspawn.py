# SPDX-License-Identifier: Apache-2.0
"""Whole machines, real systemd and real cloud-init in them, on the kernel of this one.

A machine boots from an overlay of the image, in namespaces and a cgroup of its own.
"""

import contextlib
import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

from tests.beds import cloud
from tests.beds.cloud import run
from tests.beds.process import ServerProcess

CGROUPS = [Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup/systemd"), Path("/sys/fs/cgroup")]
"""Where a host may have its hierarchies: both, or one of its own."""
FRESH_CGROUPS = 'mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$@"'
"""For a shell, in namespaces of its own: systemd in a machine wants one hierarchy."""
ENVIRONMENT = {
    "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
    "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",
}


class Cloud(cloud.Cloud):
    """A cloud of such machines. image: their files."""

    def __init__(self, image: Path, wheels: Path, directory: Path) -> None:
        super().__init__(directory, {"wheels": wheels})
        self.image = image

    def boot(
        self, name: str, user_data: str, metadata: Mapping[str, str], layer: Path | None = None
    ) -> "Machine":
        """A machine with a signal of its own; it has just been switched on.

        layer: files that its image has beside those of all.
        """
        image = [layer, self.image] if layer else [self.image]
        machine = Machine(self, name, image)
        self.switch_on(machine, user_data, metadata)
        return machine


class Machine(cloud.Machine):
    """One machine; its disk outlives its boots. image: layers, the upper one first."""

    def __init__(self, owner: cloud.Cloud, name: str, image: list[Path]) -> None:
        super().__init__(owner, name)
        self._label = f"{owner.name}-{name}"
        self._place = owner.directory / "machines" / name
        for part in ("upper", "work", "root"):
            (self._place / part).mkdir(parents=True)
            (self._place / part).chmod(0o755)  # whatever the umask takes away
        self._root = self._place / "root"
        upper, work = self._place / "upper", self._place / "work"
        below = ":".join(map(str, image))
        layers = f"lowerdir={below},upperdir={upper},workdir={work}"
        run("mount", "-t", "overlay", "overlay", "-o", layers, str(self._root))

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
        """Run a program in it, as root."""
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
