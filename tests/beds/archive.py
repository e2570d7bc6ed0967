# SPDX-License-Identifier: Apache-2.0
"""Debian packages of this machine's own archive, of any release, without installing them."""

import shutil
import subprocess
from pathlib import Path

from tests.beds.bed import MissingPackage

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
TARGETS = (
    "indextargets",
    "--format",
    "$(RELEASE) $(COMPONENT) $(REPO_URI)",
    "Created-By: Packages",
)


def own_release() -> str:
    """The code name of this machine's release."""
    lines = Path("/etc/os-release").read_text().splitlines()
    named = dict(line.split("=", 1) for line in lines if "=" in line)
    return named.get("VERSION_CODENAME", "").strip('"')


def mirror() -> str:
    """Where this machine has its release from. Raises MissingPackage when it has no archive."""
    if not shutil.which("apt-get"):
        raise MissingPackage("there is no apt here: Debian's packages cannot be had")
    listed = subprocess.run(["apt-get", *TARGETS], capture_output=True, text=True, check=True)
    for line in listed.stdout.splitlines():
        release, component, uri = line.split()
        if component == "main" and release in (own_release(), "stable"):
            return uri
    raise MissingPackage("this machine's apt sources name no archive of its release")


class Archive:
    """Packages of one release, with lists of their own in `folder`; apt here stays as it is."""

    def __init__(self, release: str, folder: Path) -> None:
        self.release = release
        self.folder = folder
        signed = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
        for place in ("lists/partial", "cache/archives/partial"):
            (folder / place).mkdir(parents=True, exist_ok=True)
        (folder / "sources.list").write_text(f"deb {signed}{mirror()} {release} main\n")
        self._options = [
            *("-o", f"Dir::Etc::SourceList={folder / 'sources.list'}"),
            *("-o", "Dir::Etc::SourceParts=/dev/null"),
            *("-o", f"Dir::State::Lists={folder / 'lists'}"),
            *("-o", f"Dir::Cache={folder / 'cache'}"),
            *("-o", "Acquire::Languages=none", "-o", "APT::Sandbox::User=root"),
        ]

    def unpack(self, package: str, into: Path) -> None:
        """Download a package and unpack it. Raises MissingPackage."""
        self._apt("update")
        self._apt("download", package)
        (found,) = self.folder.glob(f"{package}_*.deb")
        subprocess.run(["dpkg", "-x", found, into], check=True)

    def _apt(self, *words: str) -> None:
        done = subprocess.run(
            ["apt-get", "-q", *self._options, *words],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise MissingPackage(f"apt-get {' '.join(words)} of {self.release}: {done.stderr}")
