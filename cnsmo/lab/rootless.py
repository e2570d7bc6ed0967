# SPDX-License-Identifier: Apache-2.0
"""A lab without being root: the whole program moves into a user namespace, where it is.

Network, process and mount namespaces go with it; everything that is started there ends with it.
The process that this program becomes outside, unshare, is the *keeper*: other terminals enter by
its process id, and killing it is the end of the lab.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from cnsmo.agent.system import LocalSystem
from cnsmo.lab.errors import LabError, LabUnavailable
from cnsmo.lab.process import Process, child_of
from cnsmo.lab.requirements import missing_programs

KEEPER = "CNSMO_LAB_KEEPER"
"""Environment variable: pid, start and boot of the keeper, for those inside."""

TUN = Path("/dev/net/tun")
SYSCTL = Path("/proc/sys")

UNSHARE = (
    "unshare", "--user", "--map-root-user", "--mount", "--pid", "--net",
    "--fork", "--kill-child", "--mount-proc",
)  # fmt: skip

PROBE = "mount -n -t tmpfs tmpfs /run || exit 3; ip link add wg0 type wireguard || exit 4"
NO_WIREGUARD = 4

SCRIPT = """
set -e
mount -n -t tmpfs -o mode=0755 tmpfs /run
ip link set lo up
"$@"
"""
"""Process 1 in there is this sh: it reaps, and ends with its only command's exit code."""


def reexec_in_user_namespace(argv: Sequence[str]) -> NoReturn:
    """Replace this process by argv, run as root of a user namespace of its own.

    Terminal, environment, directory and exit code stay; Ctrl-C reaches argv. SIGKILL ends
    everything in there, SIGTERM is not heard (unshare blocks it).

    :raises LabUnavailable: when this machine or account cannot do that; says what to do.
    """
    check()
    environment = {**os.environ, KEEPER: _text(Process.of(os.getpid()))}
    command = [*UNSHARE, "sh", "-c", SCRIPT, "cnsmo-lab", *argv]
    os.execvpe(command[0], command, environment)  # nosec B606: it is a list


def enter_existing(pid: int) -> tuple[str, ...]:
    """The prefix that runs a command inside a rootless lab, from outside; pid: its keeper's.

    :raises LabError: when that process keeps no lab.
    """
    try:
        outer, init = Process.of(pid), child_of(pid)
    except ProcessLookupError as exc:
        raise LabError(f"process {pid} keeps no lab (any more)") from exc
    return (
        "nsenter", "-t", str(init.pid), "--user", "--preserve-credentials",
        "--mount", "--net", "--pid", "--",
        "env", f"{KEEPER}={_text(outer)}",
    )  # fmt: skip


def keeper() -> Process | None:
    """The keeper of the user namespace that we are in, if we are."""
    text = os.environ.get(KEEPER, "")
    if not text:
        return None
    pid, started, boot = text.split(":")
    return Process(int(pid), int(started), boot)


def check(tun: Path = TUN, sysctl: Path = SYSCTL) -> None:
    """Find out whether this account can hold a lab of its own.

    :raises LabUnavailable: with all that stands in the way, each with its remedy.
    """
    problems = missing_programs()
    if not problems:
        done = LocalSystem().run(*UNSHARE, "sh", "-c", PROBE, ok=range(256))
        if done.code not in (0, NO_WIREGUARD):
            problems.append(namespace_advice(done.stderr.strip(), sysctl))
        if done.code != 0:  # no WireGuard in the kernel: wireguard-go needs a TUN device
            problems += tun_advice(tun)
    if problems:
        raise LabUnavailable("\n  - ".join(["a lab without root is not possible here:", *problems]))


def namespace_advice(said: str, sysctl: Path) -> str:
    """Why unshare failed and what to do about it. said: its words; sysctl: /proc/sys."""
    for setting, bad, good in (
        ("kernel/unprivileged_userns_clone", "0", "1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
        ("user/max_user_namespaces", "0", "10000"),
    ):
        file = sysctl / setting
        if file.exists() and file.read_text().strip() == bad:
            key = setting.replace("/", ".")
            return (
                f"this machine denies user namespaces to ordinary users ({key} = {bad}); allow "
                f"them until the next boot: sudo sysctl {key}={good} (for good: put that line "
                "into /etc/sysctl.d/60-cnsmo-lab.conf); or run this with sudo"
            )
    return (
        f"this machine denies a user namespace ({said or 'it says nothing more'}); a container "
        "has to be --privileged; or run this with sudo"
    )


def tun_advice(tun: Path) -> list[str]:
    """What keeps this account from using the TUN device, and what to do; empty when nothing."""
    if not tun.exists() or not stat.S_ISCHR(tun.stat().st_mode):
        return [f"there is no {tun}: sudo modprobe tun (a container needs --device /dev/net/tun)"]
    if os.access(tun, os.R_OK | os.W_OK):
        return []
    return [
        f"this account may not use {tun} (mode {stat.S_IMODE(tun.stat().st_mode):04o}, usual is "
        f"0666); allow it until the next boot: sudo chmod 0666 {tun} (for good: echo "
        """'KERNEL=="tun", MODE="0666"' | sudo tee /etc/udev/rules.d/60-tun.rules); """
        "or run this with sudo"
    ]


def _text(process: Process) -> str:
    return f"{process.pid}:{process.started}:{process.boot}"
