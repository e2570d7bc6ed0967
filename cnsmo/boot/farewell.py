# SPDX-License-Identifier: Apache-2.0
"""A VM that is shut down for good leaves its deployment (``cnsmo_leave = shutdown``)."""

from __future__ import annotations

from cnsmo.boot.machine import Machine, say

ENDS = {"halt.target", "poweroff.target"}
"""What systemd is on its way to when a machine does not come back by itself."""


def say_it(machine: Machine) -> int:
    """Leave, unless the machine only reboots or its units are merely stopped.

    :return: the exit code.
    :raises ProgramError: when the core could not be told; it notices that the host is down.
    """
    jobs = machine.run("systemctl", "list-jobs", "--no-legend", "--plain")
    queued = {words[1] for line in jobs.splitlines() if len(words := line.split()) > 2}
    if not queued & ENDS:
        say("this machine will be back: it stays in its deployment")
        return 0
    config = "--config-file=/etc/cnsmo/cnsmo.conf"
    machine.run(str(machine.prefix / "bin" / "cnsmo-agent"), config, "--leave", timeout=30.0)
    say("left the deployment")
    return 0
