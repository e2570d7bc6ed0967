# SPDX-License-Identifier: Apache-2.0
"""What Nova's guests boot from: a kernel, an initrd, and a disk with CNSMO in it already.

The lab's guests have no way to a package archive, and an emulated CPU is slow: so everything is in
the image, as operators bake it.
"""

import dataclasses
import shutil
import subprocess
from pathlib import Path

from tests.beds import image
from tests.beds.bed import MissingPackage

PACKAGES = ["linux-image-cloud-amd64", "initramfs-tools", "keepalived"]
SETTINGS = "growpart: {mode: 'off'}\nresize_rootfs: false\n"
SIZE = "3G"
"""Of the disk; the lab's flavors have the same, so that Nova resizes nothing."""
COMMAND_LINE = "console=ttyS0 root=/dev/vda rw panic=-1 mitigations=off init_on_alloc=0"


@dataclasses.dataclass(frozen=True)
class Guest:
    """The files, in a directory."""

    folder: Path

    @property
    def kernel(self) -> Path:
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.folder / "initrd.img"

    @property
    def disk(self) -> Path:
        return self.folder / "disk.raw"


def make(folder: Path, wheels: Path) -> Guest:
    """Make them. Raises MissingPackage without debootstrap, mke2fs, or a way to the archive."""
    made = Guest(folder)
    root = files(folder / "root", wheels)
    for name, there in (("vmlinuz-*", made.kernel), ("initrd.img-*", made.initrd)):
        (found,) = (root / "boot").glob(name)
        shutil.copy(found, there)
    with made.disk.open("wb"):
        pass
    _run("mke2fs", "-q", "-t", "ext4", "-L", "root", "-d", str(root), str(made.disk), SIZE)
    shutil.rmtree(root)
    return made


def files(root: Path, wheels: Path) -> Path:
    """All files of a guest, in a directory. Raises MissingPackage."""
    root.mkdir(mode=0o755, parents=True)
    image.make(root)
    _install(root)
    _bake(root, wheels)
    (root / "etc/cloud/cloud.cfg.d/99-guest.cfg").write_text(SETTINGS)
    return root


def _install(root: Path) -> None:
    """The kernel, and what the image of machines lacks."""
    way = root / "etc/apt/apt.conf.d/99-way"
    dumped = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True)
    found = ["grep", "-iE", image.WAY]
    told = subprocess.run(found, input=dumped.stdout, capture_output=True, text=True, check=False)
    way.write_text(told.stdout)
    resolver = root / "etc/resolv.conf"
    link = resolver.readlink()
    resolver.unlink()
    shutil.copy("/etc/resolv.conf", resolver)
    apt = ("chroot", str(root), "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y")
    _run(*apt, "update")
    _run(*apt, "install", "--no-install-recommends", *PACKAGES)
    _run(*apt, "clean")
    _run("systemctl", f"--root={root}", "disable", "keepalived")
    way.unlink()
    resolver.unlink()
    resolver.symlink_to(link)


def _bake(root: Path, wheels: Path) -> None:
    """CNSMO, where user-data looks for it."""
    there = root / "srv/wheels"
    shutil.copytree(wheels, there)
    inside = ("chroot", str(root))
    _run(*inside, "python3", "-m", "venv", "--without-pip", "/opt/cnsmo")
    _run(
        *(*inside, "python3", "-m", "pip", "--python", "/opt/cnsmo/bin/python", "install", "-q"),
        *("--no-index", "--find-links", "/srv/wheels", "--require-hashes"),
        *("--no-cache-dir", "--requirement", "/srv/wheels/requirements.txt"),
    )
    shutil.rmtree(there)


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False, umask=0o022)
    if done.returncode:
        raise MissingPackage(f"{' '.join(words)}: {(done.stdout + done.stderr)[-1500:]}")
