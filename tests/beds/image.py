# SPDX-License-Identifier: Apache-2.0
"""The files of a Debian machine with systemd and cloud-init, made by debootstrap."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.beds.archive import mirror, own_release
from tests.beds.bed import MissingPackage

CACHE = "CNSMO_BARE_CACHE"
"""A directory that keeps what was made, for the next run; as tools/prove-bare.sh has it."""
PACKAGES = [
    *("systemd-sysv", "systemd-resolved", "dbus", "udev", "kmod", "procps", "iproute2"),
    *(
        "cloud-init",
        "isc-dhcp-client",
        "openssh-server",
        "python3-pip",
        "ca-certificates",
        "iputils-ping",
    ),
    *("wireguard-tools", "wireguard-go", "nftables", "conntrack", "haproxy", "rabbitmq-server"),
]
"""What an image for CNSMO has, but for CNSMO: a test has no route to a package archive."""
NOT_STARTED = ["haproxy", "nftables", "rabbitmq-server", "apt-daily.timer"]
SETTINGS = "locale: C.UTF-8\nssh_genkeytypes: [ed25519]\n"
"""Of cloud-init: as images of clouds have them, where locales are made already."""
WAY = r"^Acquire::[a-zA-Z]+::(Proxy|CaInfo|Verify|No-Cache|Timeout)"
"""Of apt's configuration: how this machine reaches its archives."""


def make(into: Path) -> None:
    """Put a machine's files into a directory. Raises MissingPackage without debootstrap."""
    for program, package in (
        ("debootstrap", "debootstrap"),
        ("systemd-nspawn", "systemd-container"),
    ):
        if not shutil.which(program):
            raise MissingPackage(f"package {package} is not installed")
    kept = Path(os.environ[CACHE], f"boot-{own_release()}.tar") if os.environ.get(CACHE) else None
    if kept is not None and kept.exists():
        _run("tar", "-C", str(into), "-xf", str(kept))
        return
    _run("debootstrap", "--variant=minbase", own_release(), str(into), mirror())
    _reach_the_archive(into)
    _install(into)
    for unit in NOT_STARTED:
        _run("systemctl", f"--root={into}", "disable", unit)
    _run("systemctl", f"--root={into}", "enable", "systemd-networkd", "systemd-resolved")
    for name in ("etc/hostname", "etc/resolv.conf", "etc/apt/apt.conf.d/99-way"):
        (into / name).unlink(missing_ok=True)
    (into / "etc/machine-id").write_text("")
    (into / "etc/cloud/cloud.cfg.d/99-image.cfg").write_text(SETTINGS)
    (into / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=kept.parent, delete=False) as draft:
            _run("tar", "-C", str(into), "-cf", draft.name, ".")
        Path(draft.name).replace(kept)


def _reach_the_archive(into: Path) -> None:
    for name in ("resolv.conf", "hosts"):
        shutil.copy(f"/etc/{name}", into / "etc" / name)
    dumped = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True)
    way = subprocess.run(
        ["grep", "-iE", WAY], input=dumped.stdout, capture_output=True, text=True, check=False
    )
    (into / "etc/apt/apt.conf.d/99-way").write_text(way.stdout)


def _install(into: Path) -> None:
    policy = into / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    apt = ("chroot", str(into), "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y")
    _run(*apt, "update")
    _run(*apt, "install", "--no-install-recommends", *PACKAGES)
    _run(*apt, "clean")
    policy.unlink()


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False, umask=0o022)
    if done.returncode:
        said = (done.stdout + done.stderr)[-1500:]
        raise MissingPackage(f"{' '.join(words)}: {said}")
