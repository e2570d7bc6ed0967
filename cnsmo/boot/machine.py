# SPDX-License-Identifier: Apache-2.0
"""The machine that boots: its files and its units."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from cnsmo.files import write_file
from cnsmo.model.errors import InvalidRequest
from cnsmo.services.base import System

UNITS = Path("/etc/systemd/system")
CONF_DIR = Path("/etc/cnsmo")
BOOT_CONF = CONF_DIR / "cnsmo.conf.d" / "50-boot.conf"


class Machine:
    """This machine, or what stands below ``root`` in a test.

    prefix: of the virtual environment that CNSMO is installed in.
    """

    def __init__(self, system: System, prefix: Path, root: Path = Path("/")) -> None:
        self.system = system
        self.prefix = prefix
        self.root = root

    def path(self, path: Path) -> Path:
        """Where a file of the machine is."""
        return self.root / path.relative_to("/")

    def write(self, path: Path, text: str, owner: str = "root", mode: int = 0o600) -> None:
        """A file; until it is whole, its owner alone can read it."""
        there = self.path(path)
        if not there.parent.exists():
            there.parent.mkdir(mode=0o755, parents=True)
            there.parent.chmod(0o755)  # whatever the umask takes away
        write_file(there, text)
        there.chmod(mode)
        self.own(path, owner)

    def folder(self, path: Path, owner: str) -> None:
        """A directory of mode 0700."""
        there = self.path(path)
        there.mkdir(mode=0o700, parents=True, exist_ok=True)
        there.chmod(0o700)
        self.own(path, owner)

    def own(self, path: Path, owner: str) -> None:
        """Give a file, or a directory with all in it, to an account."""
        there = self.path(path)
        for found in (there, *(there.rglob("*") if there.is_dir() else ())):
            shutil.chown(found, owner, owner)

    def configure(self, options: Mapping[str, Mapping[str, str]], owner: str = "root") -> None:
        """What the boot says in the configuration: group, then option to value.

        :raises InvalidRequest: when a value would say more than itself.
        """
        lines = ["# Made by cnsmo-boot from the VM's user-data."]
        for group, values in options.items():
            lines += ["", f"[{group}]"]
            for name, value in values.items():
                if not value.isascii() or not value.isprintable() or "$" in value:
                    raise InvalidRequest(f"[{group}] {name}: {ascii(value)[:80]} cannot be set")
                lines.append(f"{name} = {value}")
        if not self.path(CONF_DIR / "cnsmo.conf").exists():
            self.write(CONF_DIR / "cnsmo.conf", "", owner)
        self.write(BOOT_CONF, "\n".join([*lines, ""]), owner)

    def enable(self, *units: str) -> None:
        """Start units of CNSMO, now and at each boot, with the programs of this environment."""
        folder = self.prefix / "lib" / "systemd" / "system"
        for unit in (unit.replace(".timer", ".service") for unit in units):
            self.write(
                UNITS / f"{unit}.d" / "programs.conf",
                f"[Service]\nEnvironment=PATH={self.prefix}/bin:/usr/sbin:/usr/bin:/sbin:/bin\n",
                mode=0o644,
            )
        linked = {name for unit in units for name in (unit, unit.replace(".timer", ".service"))}
        self.run("systemctl", "link", *(str(folder / unit) for unit in sorted(linked)))
        self.run("systemctl", "daemon-reload")
        self.run("systemctl", "enable", "--now", *units)

    def run(self, *words: str, timeout: float = 120.0, stdin: str | None = None) -> str:
        """Run a program to its end.

        :raises ProgramError: when it fails.
        """
        return self.system.run(*words, timeout=timeout, stdin=stdin).stdout


def say(text: str) -> None:
    """A line for cloud-init's log."""
    sys.stderr.write(f"cnsmo-boot: {text}\n")
