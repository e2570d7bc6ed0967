# SPDX-License-Identifier: Apache-2.0
"""The volume that holds a core's state: found, formatted the first time only, mounted at boot."""

from __future__ import annotations

import re
import time
from pathlib import Path

from cnsmo.boot.machine import Machine, say
from cnsmo.boot.parameters import VOLUME_ID
from cnsmo.conf import STATE_DIR
from cnsmo.model.errors import ProgramError, Unavailable

FSTAB = Path("/etc/fstab")
BY_ID = Path("/dev/disk/by-id")
SERIAL = 20
"""So many characters of a volume's id does virtio-blk have room for (VIRTIO_BLK_ID_BYTES)."""
PATIENCE = 120.0
"""Seconds in which the volume has to be attached."""


def mount(name: str, machine: Machine) -> None:
    """Mount the volume where the state is.

    name: a device, or the volume's id, by which the hypervisor names the disk.

    :raises Unavailable: when it is not attached in time.
    """
    device = str(_attached(name, machine))
    found = _filesystem(device, machine)
    if not found:
        say(f"{device} is empty: it becomes the volume of the core's state")
        machine.run("mkfs.ext4", "-q", "-L", "cnsmo", device, timeout=600.0)
        found = _filesystem(device, machine)
    line = f"UUID={found} {STATE_DIR} ext4 defaults,nofail,x-systemd.device-timeout=120s 0 2\n"
    fstab = machine.path(FSTAB)
    text = fstab.read_text() if fstab.exists() else ""
    if line not in text:
        fstab.write_text(text + line)
        fstab.chmod(0o644)
    machine.path(STATE_DIR).mkdir(mode=0o700, parents=True, exist_ok=True)
    machine.run("systemctl", "daemon-reload")
    unit = machine.run("systemd-escape", "-p", "--suffix=mount", str(STATE_DIR)).strip()
    machine.run("systemctl", "start", unit)


def _attached(name: str, machine: Machine) -> Path:
    """The device, once it is there."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        for place in _places(name):
            if machine.path(place).exists():
                return place
        time.sleep(0.5)
    raise Unavailable(f"the volume {name} is not attached after {PATIENCE:.0f} s")


def _places(name: str) -> list[Path]:
    if not re.fullmatch(VOLUME_ID, name):
        return [Path(name)]
    # As QEMU names them: by virtio-blk, and by virtio-scsi.
    return [BY_ID / f"virtio-{name[:SERIAL]}", BY_ID / f"scsi-0QEMU_QEMU_HARDDISK_{name}"]


def _filesystem(device: str, machine: Machine) -> str:
    """The UUID of its file system; "" when it has none.

    :raises ProgramError: when it holds something else than the file system that CNSMO makes.
    """
    done = machine.system.run("blkid", "-o", "export", "-p", device, ok=(0, 2))
    values = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    if not values.keys() - {"DEVNAME"}:
        return ""
    if values.get("TYPE") != "ext4":
        raise ProgramError(f"{device} holds something else than a file system of ext4: {values}")
    return values["UUID"]
