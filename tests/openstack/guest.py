# SPDX-License-Identifier: Apache-2.0
"""What the machines that stand in for Nova's guests boot from: a system with CNSMO in it already.

The lab's guests have no way to a package archive: so everything is in the image, as operators bake
it.
"""

import shutil
import subprocess
from pathlib import Path

from tests.beds import image
from tests.beds.bed import MissingPackage

PACKAGES = ["keepalived"]
"""What the image of machines lacks."""
SETTINGS = "growpart: {mode: 'off'}\nresize_rootfs: false\n"


def files(root: Path, wheels: Path) -> Path:
    """All files of a guest, in a directory. Raises MissingPackage."""
    root.mkdir(mode=0o755, parents=True)
    image.make(root, *PACKAGES)
    _bake(root, wheels)
    (root / "etc/cloud/cloud.cfg.d/99-guest.cfg").write_text(SETTINGS)
    return root


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
