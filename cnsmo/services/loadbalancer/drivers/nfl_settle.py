# SPDX-License-Identifier: Apache-2.0
"""Brings a change into the kernel; the same for the driver and the checker. Standard library only.

Whoever calls this holds the lock.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from cnsmo.model.errors import ProgramError
from cnsmo.services.loadbalancer.drivers.nfl_change import Change, Loaded, plan
from cnsmo.services.loadbalancer.drivers.nfl_flows import end_commands, list_commands, read
from cnsmo.services.loadbalancer.drivers.nfl_health import Verdict
from cnsmo.services.loadbalancer.drivers.nfl_wanted import Wanted

FEW = 3
"""So many servers' flows are ended without a look whether there are any."""


class Run(Protocol):
    """Runs a program, see System.run; what it printed."""

    def __call__(self, *args: str, stdin: str | None = None, ok: Sequence[int] = (0,)) -> str:
        """:raises ProgramError: when its exit code is not in ok."""


Remember = Callable[[Loaded], None]


def settle(
    wanted: Wanted,
    loaded: Loaded,
    verdicts: Mapping[str, Verdict],
    now: float,
    run: Run,
    remember: Remember,
) -> Loaded:
    """Make the table as wanted, and end the flows that are to be ended; what is loaded then.

    Where the table is not what it was thought to be, it is loaded anew.

    :raises ProgramError: when that cannot be done.
    """
    health = well(verdicts)
    change = plan(wanted, loaded, health, now)
    try:
        load(change, loaded, run, remember)
    except ProgramError:
        if not loaded.chains:
            raise
        change = plan(wanted, loaded, health, now, whole=True)
        load(change, loaded, run, remember)
    end_flows(change.after, run, remember)
    return change.after


def well(verdicts: Mapping[str, Verdict]) -> dict[str, bool]:
    """Which servers are well, by key."""
    return {key: verdict.up for key, verdict in verdicts.items()}


def load(change: Change, loaded: Loaded, run: Run, remember: Remember) -> None:
    """Bring the table into the kernel, as one transaction.

    :raises ProgramError: when it is refused; the table is what it was then.
    """
    if change.text:
        remember(change.before)
        run("nft", "-f", "-", stdin=change.text)
    if change.text or change.after != loaded:
        remember(change.after)


def end_flows(loaded: Loaded, run: Run, remember: Remember) -> None:
    """End the flows that are to be ended.

    Each command looks through all flows of the kernel: where there are many, it is found out first
    which of them have anything to do.

    :raises ProgramError: when conntrack(8) fails; they are still to be ended then.
    """
    if not loaded.ending:
        return
    ending = loaded.ending
    if len(ending) > FEW:
        there = set()
        for protocol in sorted({it.protocol for it in ending}):
            for command in list_commands(protocol, loaded.ports):
                there |= {flow.server for flow in read(run(*command).splitlines())}
        ending = tuple(it for it in ending if it.key in there)
    for command in end_commands(ending, loaded.ports):
        run(*command, ok=(0, 1))
    remember(dataclasses.replace(loaded, ending=()))
