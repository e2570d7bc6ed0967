# SPDX-License-Identifier: Apache-2.0
"""A VM becomes a host: its agents are configured and started, and waited for."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from cnsmo.agent import notice
from cnsmo.boot.machine import CONF_DIR, Machine, say
from cnsmo.boot.parameters import AgentParameters
from cnsmo.conf import STATE_DIR
from cnsmo.model.errors import (
    CnsmoError,
    Conflict,
    Denied,
    InvalidRequest,
    Removed,
    Unavailable,
)

UNIT = "cnsmo-agent.service"
FIREWALL = "cnsmo-firewall.service"
LEAVE = "cnsmo-leave.service"
AGENT_DIR = STATE_DIR / "agent"
LOOK = 0.5
"""Seconds between two looks at how the agent stands."""
FINAL = {kind.code for kind in (Conflict, Denied, InvalidRequest, Removed)}
"""Errors that no waiting mends."""


def boot(given: AgentParameters, machine: Machine) -> dict[str, Any]:
    """Configure the agents and start them; return when they are ready.

    :return: what is to be told to who waits: nothing.
    :raises CnsmoError: with the reason, when they are not.
    """
    services = list(dict.fromkeys(item.partition("/")[0] for item in given.services.split(",")))
    machine.configure(
        {
            "agent": {
                "join_url": given.core,
                "ca_fingerprint": given.ca,
                "services": ",".join(services),
            },
            "host": {name: value for name, value in _host(given).items() if value},
        }
    )
    machine.write(CONF_DIR / "join.token", given.token)
    told = machine.path(notice.place(AGENT_DIR, notice.EVERY_SERVICE))
    told.unlink(missing_ok=True)  # by an earlier boot
    units = [
        UNIT,
        *([FIREWALL] if "firewall" in services else []),
        *([LEAVE] if given.leave else []),
    ]
    machine.enable(*units)
    say(f"waiting until {', '.join(services)} are ready")
    wait_ready(told, machine, float(given.wait))
    return {}


def _host(given: AgentParameters) -> dict[str, str]:
    return {
        "name": given.name,
        "site": given.site,
        "public_addresses": given.public,
        "behind_nat": given.nat,
        "ephemeral": "true" if given.leave else "",
    }


def wait_ready(path: Path, machine: Machine, patience: float) -> None:
    """Wait until the agent's process says that all of its services are ready.

    :raises CnsmoError: when it cannot become so, or does not within patience seconds.
    """
    until = time.monotonic() + patience
    said = ""
    while True:
        told = notice.read(path)
        if told is not None and told.ready:
            return
        if told is not None and told.code in FINAL:
            raise CnsmoError(told.reason)
        reason = told.reason if told is not None else "its agent has not started"
        if reason != said:
            say(reason)
            said = reason
        if time.monotonic() > until:
            last = "" if told is not None else _journal(machine)
            raise Unavailable(f"not ready after {patience:.0f} s: {reason}{last}")
        time.sleep(LOOK)


def _journal(machine: Machine) -> str:
    """What the agent said last, where it did not come as far as to say how it stands."""
    lines = machine.run("journalctl", "-u", UNIT, "-n", "1", "-o", "cat", "--no-pager").strip()
    return f": {lines[-300:]}" if lines else ""
