# SPDX-License-Identifier: Apache-2.0
"""libvirtd for Nova: without systemd, and with everything of it in the lab's directory."""

from __future__ import annotations

import sys
from pathlib import Path

from openstacklab.place import Place
from openstacklab.processes import LabError, Processes, until
from openstacklab.settings import LIBVIRT

ACCOUNTS = {
    "passwd": "libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin\n",
    "group": "kvm:x:64056:\nlibvirt-qemu:x:64055:\n",
}
"""libvirt looks for them whatever it is told; where they are missing, it alone sees these."""
QEMU_CONF = """\
user = "root"
group = "root"
security_driver = "none"
stdio_handler = "file"
cgroup_controllers = []
namespaces = []
"""
PLACES = {"etc/libvirt": "etc", "var/lib/libvirt": "lib", "var/cache/libvirt": "cache",
          "run/libvirt": "state", "var/log/libvirt": "log"}  # fmt: skip
"""What libvirt believes to be its own, and what it is below the lab's ``libvirt/``."""
BINDING = "libvirt*"
"""The Debian package python3-libvirt, for Nova: the index has only its source."""


def start(processes: Processes) -> None:
    """Start libvirtd, and wait until it listens."""
    place = processes.place
    home = place.folder("libvirt")
    for name in (*PLACES.values(), "run"):
        place.folder("libvirt", name)
    (home / "etc/qemu.conf").write_text(QEMU_CONF)
    (home / "libvirtd.conf").write_text(f'unix_sock_dir = "{home}/run"\nauth_unix_rw = "none"\n')
    lines = [_account(home, name) for name in ACCOUNTS]
    for there, here in PLACES.items():
        lines += [f"mkdir -p /{there}", f"mount --bind {home}/{here} /{there}"]
    lines.append(f"exec libvirtd -f {home}/libvirtd.conf")
    processes.start("libvirtd", "unshare", "--mount", "sh", "-ec", "\n".join(lines))
    until(place.path(LIBVIRT).exists, 30, f"libvirtd listens:\n{processes.log('libvirtd')}")


def binding(place: Place) -> str:
    """A directory in which Nova's Python finds libvirt.

    :raises LabError: when the package is missing.
    """
    found = list(Path("/usr/lib/python3/dist-packages").glob(BINDING))
    ours = f"cpython-{sys.version_info.major}{sys.version_info.minor}"
    if not any(ours in path.name for path in found):
        raise LabError(f"package python3-libvirt for {ours} is not installed")
    folder = place.folder("libvirt", "python")
    for path in found:
        link = folder / path.name
        if not link.is_symlink():
            link.symlink_to(path)
    return str(folder)


def _account(home: Path, name: str) -> str:
    """A shell's line that gives libvirtd the accounts that the machine lacks."""
    real = Path("/etc", name).read_text()
    known = {line.partition(":")[0] for line in real.splitlines()}
    missing = [line for line in ACCOUNTS[name].splitlines() if line.partition(":")[0] not in known]
    (home / name).write_text(real + "".join(f"{line}\n" for line in missing))
    return f"mount --bind {home}/{name} /etc/{name}"
