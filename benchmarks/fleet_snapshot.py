# SPDX-License-Identifier: Apache-2.0
"""A new agent of a deployment with very many rows: what its first sync costs, in time and memory.

The rows are those of hosts and of their agents, put into the database beforehand. The agent is
alone in its process, the core in its own; memory is the most that was ever resident (VmHWM), less
what was resident before the agent was started. What the agent holds in the end is a copy of the
deployment; the core holds nothing of it.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks import rows
from benchmarks.armada import Armada
from benchmarks.child import Child
from benchmarks.figures import Figure, Target, median_of
from benchmarks.run import Run
from benchmarks.stage import DEPLOYMENT
from cnsmo.conf import CONF
from cnsmo.model.resource import Row
from cnsmo.state.engine import engine_for
from cnsmo.state.store import Store
from cnsmo.state.vault import vault_of
from cnsmo.state.writer import Writer

AT_ONCE = 3000
"""Rows in a revision."""
KIB, MEGA = 1024, 1e6
CORE = Target(64.0)


def measure(run: Run) -> list[Figure]:
    """See above."""
    count = run.scale.snapshot_rows
    run.expect(2)
    with Armada(run, 1) as armada:
        run.step(f"writing {count} rows")
        _fill(armada, count)
        (fleet,) = armada.fleets
        before = {child: _memory(child, "VmRSS") for child in (armada.stage.core, fleet)}
        run.step("a new agent joins")
        seconds = armada.until_ready_since(armada.storm())
        grown = {child: _memory(child, "VmHWM") - before[child] for child in before}
    return [
        median_of(f"start until ready, {count} rows", "s", [seconds]),
        median_of("core: most memory beside what it had", "MB", [grown[armada.stage.core]], CORE),
        median_of("agent: most memory beside what it had", "MB", [grown[fleet]]),
    ]


def _fill(armada: Armada, count: int) -> None:
    stage = armada.stage
    CONF.set_override("key_file", str(stage.directory / "secrets.json"), "secrets")
    engine = engine_for(stage.database)
    store = Store(engine, vault_of(CONF))
    made: list[Row] = []
    number = 0
    while len(made) < count:
        number += 1
        made += [rows.host(number, 1), *rows.agents(number, 1)]
    made = made[:count]

    def put(some: list[Row]) -> None:
        def work(writer: Writer) -> None:
            for row in some:
                writer.put(row.kind, row.name, row.body, row.owner)

        store.write(DEPLOYMENT, "bench", work)

    try:
        for begin in range(0, count, AT_ONCE):
            put(made[begin : begin + AT_ONCE])
    finally:
        engine.dispose()


def _memory(child: Child, kind: str) -> float:
    """Megabytes of a process, proc(5)."""
    for line in Path(f"/proc/{child.pid}/status").read_text().splitlines():
        if line.startswith(f"{kind}:"):
            return int(line.split()[1]) * KIB / MEGA
    raise ProcessLookupError(child.pid)
