# SPDX-License-Identifier: Apache-2.0
"""What a lab needs of the machine, asked before anything is made."""

from __future__ import annotations

from pathlib import Path

from cnsmo.agent.system import LocalSystem
from cnsmo.lab.errors import LabUnavailable

PACKAGES = {
    "hostname": "hostname",
    "ip": "iproute2",
    "mount": "mount",
    "nft": "nftables",
    "nsenter": "util-linux",
    "sysctl": "procps",
    "unshare": "util-linux",
}
"""The package that has each program, as Debian and Ubuntu name it."""

CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21}
"""capabilities(7), with their bits."""


def missing_programs() -> list[str]:
    """One sentence for each package that has to be installed."""
    system = LocalSystem()
    missing: dict[str, list[str]] = {}
    for program, package in PACKAGES.items():
        if not system.has(program):
            missing.setdefault(package, []).append(program)
    return [
        f"{' and '.join(programs)} missing: sudo apt install {package}"
        for package, programs in missing.items()
    ]


def check(status: Path = Path("/proc/self/status")) -> None:
    """Find out whether this process can hold a lab.

    :raises LabUnavailable: with all that is missing, a line each.
    """
    problems = missing_programs()
    effective = next(
        int(line.split()[1], 16)
        for line in status.read_text().splitlines()
        if line.startswith("CapEff:")
    )
    lacking = [name for name, bit in CAPABILITIES.items() if not effective >> bit & 1]
    if lacking:
        problems.append(
            f"no {' and '.join(lacking)}: run it as root (sudo), or as an ordinary user in a user "
            "namespace of its own; a container has to be --privileged"
        )
    if problems:
        raise LabUnavailable("no lab here:\n  " + "\n  ".join(problems))
