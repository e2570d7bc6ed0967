# SPDX-License-Identifier: Apache-2.0
"""The files of a Debian machine with systemd and cloud-init, made by debootstrap."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.beds.archive import mirror, own_release
from tests.beds.bed import MissingPackage

CACHE = "CNSMO_BARE_CACHE"
"""A directory that keeps what was made, for the next run; as tools/prove-bare.sh has it."""
SYSTEM = [
    *("systemd-sysv", "systemd-resolved", "dbus", "udev", "kmod", "procps", "iproute2"),
    *("cloud-init", "openssh-server", "ca-certificates", "iputils-ping"),
]
"""What every image has."""
DHCP = {"bookworm": "isc-dhcp-client"}
"""The client that a release's cloud-init asks for its first address; later ones: dhcpcd-base."""
SERVICES = [
    *("wireguard-tools", "nftables", "conntrack", "haproxy", "rabbitmq-server"),
]
"""What CNSMO's services need, and a core."""
MACHINE = [*SERVICES, "wireguard-go", "python3-pip"]
"""What a machine has, beside these, that boots on a kernel without WireGuard and has no archive."""
NOT_STARTED = ["haproxy", "keepalived", "nftables", "rabbitmq-server", "apt-daily.timer"]
SETTINGS = "locale: C.UTF-8\nssh_genkeytypes: [ed25519]\n"
"""Of cloud-init: as images of clouds have them, where locales are made already."""
WAY = r"^Acquire::[a-zA-Z]+::(Proxy|CaInfo|Verify|No-Cache|Timeout)"
"""Of apt's configuration: how this machine reaches its archives."""


def make(into: Path, *more: str) -> None:
    """Put the files of a machine of this release into a directory, with all that CNSMO needs.

    more: packages beside that. Raises MissingPackage without debootstrap.
    """
    _need("systemd-nspawn", "systemd-container")
    packages = [*system(own_release()), *MACHINE, *more]
    kept = cached(f"boot-{own_release()}", packages)
    if kept is not None and kept.exists():
        _run("tar", "-C", str(into), "-xf", str(kept))
        return
    bootstrap(into, own_release(), packages)
    if kept is not None:
        with tempfile.NamedTemporaryFile(dir=kept.parent, delete=False) as draft:
            _run("tar", "-C", str(into), "-cf", draft.name, ".")
        Path(draft.name).replace(kept)


def system(release: str) -> list[str]:
    """The packages that every image of a release has."""
    return [*SYSTEM, DHCP.get(release, "dhcpcd-base")]


def cached(name: str, recipe: object) -> Path | None:
    """Where what is made of that recipe is kept, if it is."""
    if not os.environ.get(CACHE):
        return None
    digest = hashlib.sha256(f"{recipe} {Path(__file__).read_text()}".encode()).hexdigest()
    folder = Path(os.environ[CACHE])
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}-{digest[:12]}"


def bootstrap(
    into: Path,
    release: str,
    packages: list[str],
    settings: str = "",
    last: Callable[[Path], None] | None = None,
) -> None:
    """A system of a release, with packages; nothing in it runs at boot that no image has.

    settings: of cloud-init, beside those of all. last: done while apt still reaches the archive.
    Raises MissingPackage without debootstrap.
    """
    _need("debootstrap", "debootstrap")
    _run("debootstrap", "--variant=minbase", release, str(into), mirror())
    _reach_the_archive(into)
    _install(into, packages)
    if last is not None:
        _reach_the_archive(into)  # again: systemd-resolved has other ideas of resolv.conf
        last(into)
    for unit in NOT_STARTED:
        if unit in packages or unit.endswith(".timer"):
            _run("systemctl", f"--root={into}", "disable", unit)
    _run("systemctl", f"--root={into}", "enable", "systemd-networkd", "systemd-resolved")
    for name in ("etc/hostname", "etc/resolv.conf", "etc/apt/apt.conf.d/99-way"):
        (into / name).unlink(missing_ok=True)
    (into / "etc/machine-id").write_text("")
    (into / "etc/cloud/cloud.cfg.d/99-image.cfg").write_text(SETTINGS + settings)
    (into / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")


def apt(into: Path, *words: str) -> None:
    """Run apt-get in there, as it reaches the archive. Raises MissingPackage when it fails."""
    quiet = ("chroot", str(into), "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y")
    _run(*quiet, "-o", "APT::Install-Recommends=false", *words)


def _need(program: str, package: str) -> None:
    if not shutil.which(program):
        raise MissingPackage(f"package {package} is not installed")


def _reach_the_archive(into: Path) -> None:
    for name in ("resolv.conf", "hosts"):
        (into / "etc" / name).unlink(missing_ok=True)
        shutil.copy(f"/etc/{name}", into / "etc" / name)
    dumped = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True)
    way = subprocess.run(
        ["grep", "-iE", WAY], input=dumped.stdout, capture_output=True, text=True, check=False
    )
    (into / "etc/apt/apt.conf.d/99-way").write_text(way.stdout)


def _install(into: Path, packages: list[str]) -> None:
    policy = into / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    apt(into, "update")
    apt(into, "install", *packages)
    apt(into, "clean")
    policy.unlink()


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False, umask=0o022)
    if done.returncode:
        said = (done.stdout + done.stderr)[-1500:]
        raise MissingPackage(f"{' '.join(words)}: {said}")
