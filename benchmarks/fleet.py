# SPDX-License-Identifier: Apache-2.0
"""How a fleet of agents lives with one core: it comes at once, follows a change, and idles.

* join storm: all agents start at once, with nothing but a token; until all are ready, as the core
  took it, and have in force the revision that it had by then. Calls that got no answer in time, and
  pauses before another try, are counted.
* one change: an operator changes one row; from the call until each agent has it in force, and the
  last. Heartbeats go on meanwhile.
* idle: processor time of the core while nothing changes, at a heartbeat each 10 s from every agent.
* bytes: message bodies that agents receive and send for one change, without those of the
  heartbeats that were due anyway (their mean is taken from the idle time).
* rows that the database reads for one agent's question about one change, as it says itself.
"""

from __future__ import annotations

import dataclasses
import statistics
import time

from benchmarks.armada import Armada
from benchmarks.figures import Figure, Target, exponent_of, median_of, p99_of
from benchmarks.run import Run
from benchmarks.stage import DEPLOYMENT
from cnsmo.conf import CONF
from cnsmo.state.engine import engine_for
from cnsmo.state.store import Store
from cnsmo.state.vault import vault_of
from tests.integration.state.rows_read import analyze, rows_read, statements

BYTES = ("received_bytes", "sent_bytes", "beats")
STORM, CHANGE, IDLE, ROWS = Target(60.0), Target(3.0), Target(25.0), Target(4.0)
CONSTANT = Target(0.1)
QUIET_SECONDS = 2.0
"""After a change, in which what it still causes comes to an end."""


@dataclasses.dataclass
class Found:
    """Of one size; times in seconds."""

    storm: float
    trouble: str
    changes: list[float]
    last: list[float]
    idle: float
    bytes: list[float]
    rows: int


def measure(run: Run) -> list[Figure]:
    """See above."""
    sizes = run.scale.fleet_sizes
    run.expect(len(sizes) * (run.scale.fleet_changes + 3))
    found = {size: _measure(run, size) for size in sizes}
    figures = [figure for size, one in found.items() for figure in _figures(size, one)]
    if len(sizes) > 1:
        values = [statistics.median(found[size].bytes) for size in sizes]
        figures.append(
            exponent_of("bytes per agent per change ~ agents^k", sizes, values, CONSTANT)
        )
    return figures


def _figures(size: int, found: Found) -> list[Figure]:
    name = f"{size} agents"
    return [
        median_of(f"{name}: all start, until all are ready", "s", [found.storm], STORM,
                  found.trouble),
        median_of(f"{name}: one change until applied", "s", found.changes),
        p99_of(f"{name}: one change until applied", "s", found.changes, CHANGE),
        median_of(f"{name}: one change until the last applied it", "s", found.last),
        median_of(f"{name}: idle core", "% of a processor", [found.idle], IDLE),
        median_of(f"{name}: bytes per agent per change", "bytes", found.bytes),
        median_of(f"{name}: rows read to answer sync for one change", "rows", [found.rows], ROWS),
    ]  # fmt: skip


def _measure(run: Run, size: int) -> Found:
    with Armada(run, size) as armada:
        run.step(f"{size} agents start")
        storm = armada.until_ready_since(armada.storm())
        told = armada.totals("timeouts", "retries", "syncs")
        trouble = ", ".join(f"{name}: {count:.0f}" for name, count in told.items())
        time.sleep(QUIET_SECONDS)
        run.step(f"{size} agents idle for {run.scale.fleet_idle_seconds:g} s")
        idle, per_beat = _idle(armada, run.scale.fleet_idle_seconds)
        changes: list[float] = []
        last: list[float] = []
        sent: list[float] = []
        for number in range(run.scale.fleet_changes):
            run.step(f"{size} agents, change {number + 1} of {run.scale.fleet_changes}")
            before, begun = armada.totals(*BYTES), time.monotonic()
            times = [at - begun for at in armada.applied_at(armada.change())]
            changes += times
            last.append(max(times))
            time.sleep(QUIET_SECONDS)
            sent.append(_bytes(before, armada.totals(*BYTES), per_beat) / size)
        run.step(f"{size} agents: rows read")
        return Found(storm, trouble, changes, last, idle, sent, _rows(armada))


def _idle(armada: Armada, seconds: float) -> tuple[float, float]:
    """The cores' part of a processor, in percent; and bytes of a heartbeat, both ways."""
    before, spent, begun = armada.totals(*BYTES), armada.spent(), time.monotonic()
    time.sleep(seconds)
    share = 100 * (armada.spent() - spent) / (time.monotonic() - begun)
    after = armada.totals(*BYTES)
    beats = after["beats"] - before["beats"]
    return share, _bytes(before, after, 0.0) / max(beats, 1)


def _bytes(before: dict[str, float], after: dict[str, float], per_beat: float) -> float:
    spent = {name: after[name] - before[name] for name in after}
    return spent["received_bytes"] + spent["sent_bytes"] - spent["beats"] * per_beat


def _rows(armada: Armada) -> int:
    """What the database reads for the query that answers an agent after one more change."""
    stage = armada.stage
    since = stage.client.deployment_show(DEPLOYMENT).revision
    armada.applied_at(armada.change())
    CONF.set_override("key_file", str(stage.directory / "secrets.json"), "secrets")
    engine = engine_for(stage.database)
    try:
        analyze(engine)
        head = stage.client.deployment_show(DEPLOYMENT).revision
        with statements(engine) as sent:
            Store(engine, vault_of(CONF)).changes(DEPLOYMENT, max(since, head - 1))
        return sum(rows_read(engine, *it) for it in sent if it[0].startswith("SELECT"))
    finally:
        engine.dispose()
