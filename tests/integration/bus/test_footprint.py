# SPDX-License-Identifier: Apache-2.0
"""What an agent costs its VM. Printed here (pytest -s); benchmarks/ measures and judges."""

import os
import time
from pathlib import Path

from cnsmo.bus.events import Watch
from tests.integration.fleet import Fleet, awaited

LOOK = 3.0
"""Seconds of idleness that are measured."""


def memory(pid: int) -> float:
    """Resident memory in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))


def processor_seconds(pid: int) -> float:
    """Used so far by all threads; fields 14 and 15 of proc(5), stat."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def test_an_agent_is_announced_soon_and_then_idle(fleet: Fleet) -> None:
    fleet.apply()
    token = fleet.token()
    with Watch(fleet.conf) as watch:
        started = time.monotonic()
        agent = fleet.agent("web1", token=token, heartbeat=10)
        awaited(watch, lambda event: event.type == "vpn.member.declared")
        announced = time.monotonic() - started
        awaited(watch, lambda event: event.type == "agent.ready")
        ready = time.monotonic() - started
    pid = agent.process.pid
    used = processor_seconds(pid)
    time.sleep(LOOK)
    idle = (processor_seconds(pid) - used) / LOOK
    core = sum(memory(pid) for pid in fleet.programs[0].process.family)
    print(
        f"agent: announced after {announced:.2f} s, ready after {ready:.2f} s, took {used:.2f} s of"
        f" processor; {memory(pid):.0f} MiB resident; idle {idle:.2%}. core: {core:.0f} MiB"
    )
    assert announced < ready
