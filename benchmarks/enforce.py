# SPDX-License-Identifier: Apache-2.0
"""From ``cnsmo-manage apply``, typed, until a rule is in force in the kernels of 1, 5 and 50 hosts.

The VMs have a firewall of a few rules. The clock starts with the process ``cnsmo-manage apply`` of
a document in which a rule is another one, and stops when the kernel of the last VM has told that
its transaction with that rule is committed; nobody polls for it. In between: the command starts,
plans and applies over RabbitMQ, the core writes and hints, each agent fetches the row, compiles,
arms the guard of the trial, and loads. The round ends when all agents have let the change stay.
The agents share one process here, and all VMs, the core and the broker the processors of this
machine: in the field each host does its part on its own. So what they spend on each host is told,
too; and with one host, from the core's write on, what a host needs that has a machine for itself.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.figures import Figure, Target, median_of, p95_of
from benchmarks.rule_watch import RuleWatch
from benchmarks.run import Run
from benchmarks.stage import DEPLOYMENT, SECONDS, Stage
from cnsmo.lab.topology import mesh

MANAGE = Path(sys.executable).with_name("cnsmo-manage")
GROUP = "mesh"
FIRST_PORT = 8000
MILLI = 1e3
SHARE = "hint, fetch, compile, arm, load; all hosts on the same processors"
SHARED = "core, broker and command included, until all agents have let the change stay"
DOCUMENT = """deployment: {deployment}
firewall:
  perimeter:
    inbound:
      - {{protocol: icmp, icmp: echo-request, name: ping}}
      - {{from: any, protocol: tcp, ports: [http, https], name: www}}
      - {{from: {group}, protocol: tcp, ports: 5432, name: sql}}
      - {{from: {group}, protocol: tcp, ports: {port}, name: {name}}}
"""


def measure(run: Run) -> list[Figure]:
    """See above."""
    *fewer, many = run.scale.enforce_hosts
    found = [figure for hosts in fewer for figure in _measure(run, hosts, None)]
    return [*found, *_measure(run, many, Target(1.0))]


def _measure(run: Run, hosts: int, target: Target | None) -> list[Figure]:
    rounds = run.scale.enforce_rounds
    typed, written, last, busy = [], [], [], []
    with Stage(run, mesh(hosts, groups=(GROUP,))) as stage:
        run.tell(f"{hosts} hosts join")
        vms = stage.lab.vms()
        stage.join([vm.name for vm in vms], [GROUP])
        with RuleWatch(vms, stage.directory / "watch.log") as watch:
            for number in range(run.scale.warm_ups):
                _round(stage, watch, number)
            run.expect(rounds)
            for number in range(rounds):
                run.step(f"{hosts} hosts, round {number + 1} of {rounds}")
                spent = _processor_seconds()
                at_core, times = _round(stage, watch, number + run.scale.warm_ups)
                busy.append((_processor_seconds() - spent) / hosts * MILLI)
                typed.append(max(times))
                written.append(at_core)
                last.append(max(times) - at_core)
    name = f"apply typed until in the kernel of all {hosts}"
    start = f"of it until the core has written it: {statistics.median(written):.2f} s"
    return [
        p95_of(name, "s", typed, target),
        median_of(name, "s", typed, note=start),
        median_of(f"the core has written it until all {hosts} have it", "s", last, note=SHARE),
        median_of(f"processor time of a round, for each of {hosts}", "ms", busy, note=SHARED),
    ]


def _processor_seconds() -> float:
    """What all processors of this machine have worked since it started (proc(5), /proc/stat)."""
    with open("/proc/stat") as file:
        user, nice, system, _idle, _wait, irq, softirq = map(int, file.readline().split()[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def _round(stage: Stage, watch: RuleWatch, number: int) -> tuple[float, list[float]]:
    """Seconds from the command's start until the core had written, and until each kernel had it."""
    name = f"round-{number:05}"
    document = stage.directory / "document.yaml"
    port = FIRST_PORT + number
    document.write_text(DOCUMENT.format(deployment=DEPLOYMENT, group=GROUP, port=port, name=name))
    watch.begin(f"perimeter/inbound/{name}")
    with open(stage.directory / "manage.log", "ab") as log:
        epoch, begun = time.time(), time.monotonic()
        command = subprocess.Popen(
            [MANAGE, "--config-file", str(stage.config), "apply", str(document)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
        times = watch.wait(SECONDS)
        if command.wait(SECONDS):
            raise RuntimeError(f"cnsmo-manage failed: see {log.name}")
    (row,) = stage.client.service_list(DEPLOYMENT)
    stage.settle()
    return row.updated_at.timestamp() - epoch, [at - begun for at in times]
