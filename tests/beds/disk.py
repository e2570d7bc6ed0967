# SPDX-License-Identifier: Apache-2.0
"""What a VM boots from: a disk of a Debian release, as clouds offer it, and packages beside it.

The system has cloud-init, SSH, a kernel, and nothing that CNSMO needs: what its services want is
in an archive that the cloud serves, as a real VM gets it from its release's.
"""

import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.beds import image
from tests.beds.bed import MissingPackage
from tests.beds.cloud import METADATA

KERNEL = ["linux-image-cloud-amd64", "initramfs-tools"]
BARE = ["sudo", *KERNEL]
OFFERED = [*image.SERVICES, "python3-pip"]
"""What the archive has, with all that it depends on."""
SIZE = "4G"
SETTINGS = "growpart: {mode: 'off'}\nresize_rootfs: false\napt: {preserve_sources_list: true}\n"
"""Of cloud-init: the disk is as large as it gets, and the cloud's archive is in the image."""


@dataclass(frozen=True)
class Disk:
    """What is in a directory: a raw file system, its kernel, and an archive of packages."""

    folder: Path

    @property
    def system(self) -> Path:
        return self.folder / "system.raw"

    @property
    def kernel(self) -> Path:
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.folder / "initrd.img"

    @property
    def archive(self) -> Path:
        return self.folder / "archive"


def make(into: Path, release: str) -> Disk:
    """The disk of a release, below a directory (or where it is kept for the next run).

    Raises MissingPackage without debootstrap, mke2fs, or an archive that is reached.
    """
    recipe = (Path(__file__).read_text(), image.system(release), BARE, OFFERED)
    folder = image.cached(f"vm-{release}", recipe) or into / release
    if folder.exists():
        return Disk(folder)
    into.mkdir(parents=True, exist_ok=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{folder.name}."))
    try:
        _make(draft, release)
        draft.rename(folder)
    except FileExistsError:
        pass  # another was quicker
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Disk(folder)


def _make(folder: Path, release: str) -> None:
    made = Disk(folder)
    root = folder / "root"
    root.mkdir(mode=0o755)
    offer = functools.partial(_offer, release=release, into=made.archive)
    packages = [*image.system(release), *BARE]
    image.bootstrap(root, release, packages, SETTINGS, offer)
    (found,) = (root / "boot").glob("vmlinuz-*")
    shutil.copy(found, made.kernel)
    (found,) = (root / "boot").glob("initrd.img-*")
    shutil.copy(found, made.initrd)
    _file_system(root, made.system)
    shutil.rmtree(root)


def _offer(root: Path, release: str, into: Path) -> None:
    """Fetch packages into an archive of its own, from which the system gets them later."""
    image.apt(root, "install", "--download-only", *OFFERED)
    into.mkdir()
    index = []
    for package in sorted((root / "var/cache/apt/archives").glob("*.deb")):
        shutil.copy(package, into)
        fields = subprocess.run(
            ["dpkg-deb", "--field", package], capture_output=True, text=True, check=True
        )
        digest = hashlib.sha256(package.read_bytes()).hexdigest()
        where = f"Filename: ./{package.name}\nSize: {package.stat().st_size}\nSHA256: {digest}\n"
        index.append(fields.stdout.rstrip("\n") + "\n" + where)
    (into / "Packages").write_text("\n".join(index))
    image.apt(root, "clean")
    for left in (root / "var/lib/apt/lists").glob("*_*"):
        left.unlink()
    for other in (root / "etc/apt/sources.list.d").glob("*"):
        other.unlink()
    line = f"deb [trusted=yes] http://{METADATA}/archive-{release} ./\n"
    (root / "etc/apt/sources.list").write_text(line)


def _file_system(root: Path, into: Path) -> None:
    """An ext4 of the files, without a mount."""
    if not shutil.which("mke2fs", path=f"{os.environ['PATH']}:/usr/sbin:/sbin"):
        raise MissingPackage("package e2fsprogs is not installed")
    with into.open("wb") as file:
        file.truncate(0)
    words = ("-q", "-t", "ext4", "-L", "root", "-E", "lazy_itable_init=0,lazy_journal_init=0")
    done = subprocess.run(
        ["mke2fs", *words, "-d", root, into, SIZE],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
    )
    if done.returncode:
        raise MissingPackage(f"mke2fs: {done.stderr}")
