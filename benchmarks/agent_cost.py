# SPDX-License-Identifier: Apache-2.0
"""What the agent costs its VM: start, memory, idle processor time.

The real cnsmo-agent process, in one VM of a WireGuard mesh of as many hosts as in `newcomer`, over
RabbitMQ, with the field's periods (a heartbeat each 10 s, a look at what is there each 60 s).

* start: from the process's start until the core has written its announcement to the VPN: Python has
  started, keys are made, the host has joined. A new host each time.
* memory: resident set (VmRSS) at the end; PSS counts shared pages in proportion.
* idle: processor time of the process *and of the programs that it runs*, while nothing happens.
"""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path

from benchmarks.figures import Figure, Target, median_of
from benchmarks.newcomer import VPN, agent, warm_up
from benchmarks.run import Run
from benchmarks.stage import Stage
from cnsmo.lab.topology import mesh

TICKS = os.sysconf("SC_CLK_TCK")
CALM_SECONDS = 10.0
"""After the start, before it counts as idle."""
KIB, MEGA = 1024, 1e6


def measure(run: Run) -> list[Figure]:
    """See above."""
    starts, resident, shared = [], [], []
    hosts = run.scale.mesh_hosts
    plan = dataclasses.replace(mesh(hosts + 1), core=True)
    with Stage(run, plan) as stage:
        *old, new = stage.lab.vms()
        run.tell(f"{hosts} hosts join")
        stage.join(vm.name for vm in old)
        stage.apply(VPN)
        stage.settle()
        warm_up(run, stage, new.name)
        run.expect(run.scale.agent_starts + 1)
        for number in range(run.scale.agent_starts):
            run.step(f"start {number + 1} of {run.scale.agent_starts}")
            with stage.announced(new.name) as wait:
                begun = time.monotonic()
                with agent(stage, new.name) as process:
                    starts.append(wait() - begun)
                    stage.settle(new.name)
                    resident.append(_memory(process.pid, "Rss"))
                    shared.append(_memory(process.pid, "Pss"))
        run.step(f"watching an idle agent for {run.scale.idle_seconds:g} s")
        with agent(stage, new.name) as process:
            stage.settle(new.name)
            time.sleep(min(CALM_SECONDS, run.scale.idle_seconds))
            before, begun = _cpu(process.pid), time.monotonic()
            time.sleep(run.scale.idle_seconds)
            spent, passed = _cpu(process.pid) - before, time.monotonic() - begun
            resident.append(_memory(process.pid, "Rss"))
    idle = f"{spent:.2f} s of processor time in {passed:.0f} s, programs included"
    return [
        median_of("start until announced", "s", starts, Target(1.5)),
        median_of("resident memory", "MB", resident, Target(80.0)),
        median_of("memory, shared pages in proportion (PSS)", "MB", shared),
        median_of("idle", "% of a processor", [100 * spent / passed], Target(0.5), idle),
    ]


def _cpu(pid: int) -> float:
    """Seconds of processor time of a process and of its children that have ended, proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / TICKS


def _memory(pid: int, kind: str) -> float:
    """Megabytes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{kind}:"):
            return int(line.split()[1]) * KIB / MEGA
    raise ProcessLookupError(pid)
