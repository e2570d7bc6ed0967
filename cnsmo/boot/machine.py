# SPDX-License-Identifier: Apache-2.0
"""The machine that boots: its files and its units."""

from __future__ import annotations

import grp
import os
import pwd
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cnsmo.files import folder_below, write_in
from cnsmo.model.errors import InvalidRequest

if TYPE_CHECKING:
    from cnsmo.services.base import System

UNITS = Path("/etc/systemd/system")
CONF_DIR = Path("/etc/cnsmo")
BOOT_CONF = CONF_DIR / "cnsmo.conf.d" / "50-boot.conf"


class Machine:
    """This machine, or what stands below ``root`` in a test.

    Some directories are another account's, who may put a link in the place of anything there: no
    link is followed.

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
        self._make(path.parent, 0o755)
        with folder_below(self.root, _inside(path.parent)) as inside:
            write_in(inside, path.name, text, mode=mode, owner=ids(owner))

    def read(self, path: Path) -> str:
        """What a file holds.

        :raises OSError: when it cannot be read, or is a link.
        """
        with folder_below(self.root, _inside(path.parent)) as inside:
            found = os.open(path.name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=inside)
            with open(found, encoding="utf-8") as file:
                return file.read()

    def folder(self, path: Path, owner: str, mode: int = 0o700) -> None:
        """A directory, which need not be empty."""
        self._make(path, mode)
        with folder_below(self.root, _inside(path)) as found:
            os.fchown(found, *ids(owner))
            os.fchmod(found, mode)

    def _make(self, path: Path, mode: int) -> None:
        """A directory with all above it; those that are there stay as they are."""
        for level in reversed([path, *path.parents][:-1]):
            with folder_below(self.root, _inside(level.parent)) as above:
                try:
                    os.mkdir(level.name, mode, dir_fd=above)
                except FileExistsError:
                    continue
            with folder_below(self.root, _inside(level)) as made:
                os.fchmod(made, mode)  # whatever the umask takes away

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


def _inside(path: Path) -> Path:
    return path.relative_to("/")


def ids(account: str) -> tuple[int, int]:
    """User and group of an account, whose group bears its name."""
    return pwd.getpwnam(account).pw_uid, grp.getgrnam(account).gr_gid


def say(text: str) -> None:
    """A line for cloud-init's log."""
    sys.stderr.write(f"cnsmo-boot: {text}\n")
