# SPDX-License-Identifier: Apache-2.0
"""What a change costs the core, and each agent, as the deployment grows.

Agents with the driver ``noop`` share a process, the core has one of its own; between them RabbitMQ,
under the core SQLite (so that its processor time includes the database's). Two kinds of change:

* an operator changes one row; every agent hears of it, fetches it, brings it in force, says so;
* a host joins: it announces itself, and every other one has to know.

Counted from the change until no message has passed for a while: the core's processor time, its SQL
statements, the messages that it sent and received, and the bytes of message bodies that the agents
received, divided by the number of agents (the newcomer's snapshot, which is as large as the
deployment, so counts as one more row for each). Work shall grow no faster than the hosts (exponent
1), bytes per agent shall not grow (exponent 0).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from benchmarks.figures import Figure, Target, exponent_of, median_of
from benchmarks.run import Run
from benchmarks.stage import Stage

VPN = "backbone: {{cidr: 10.66.0.0/16, driver: noop, keepalive: {keepalive}}}"
CALM = "[agent]\nheartbeat = 3600\nresync = 86400\n[core]\ndown_after = 86400\n"
"""Nothing but the change is to be counted: what happens all the time is switched off."""
WORK = {"cpu": "seconds of processor", "statements": "SQL statements", "messages": "messages"}
AT_MOST_LINEAR = Target(1.1)
CONSTANT = Target(0.1)


def measure(run: Run) -> list[Figure]:
    """See above."""
    sizes = run.scale.core_hosts
    run.expect(len(sizes) * (run.scale.core_changes + run.scale.core_joins))
    with Stage(run, config=CALM) as stage:
        stage.apply(VPN.format(keepalive=1))
        found = [_measure_at(run, stage, hosts) for hosts in sizes]
    figures = []
    for change in ("one row changed", "one host joins"):
        for key, what in WORK.items():
            values = [statistics.median(at[change][key]) for at in found]
            name = f"{change}: {what} ~ hosts^k"
            figures.append(exponent_of(name, sizes, values, AT_MOST_LINEAR))
        values = [statistics.median(at[change]["bytes"]) for at in found]
        name = f"{change}: bytes to each agent ~ hosts^k"
        figures.append(exponent_of(name, sizes, values, CONSTANT))
        largest = found[-1][change]
        figures.append(median_of(
            f"{change}: the core's processor time, {sizes[-1]} hosts", "s", largest["cpu"]
        ))  # fmt: skip
    return figures


Samples = dict[str, list[float]]


def _measure_at(run: Run, stage: Stage, hosts: int) -> dict[str, Samples]:
    run.tell(f"{hosts} hosts join")
    there = len(stage.hosts())
    stage.join(f"host{number:03}" for number in range(there, hosts))
    changed = _samples(
        run,
        stage,
        run.scale.core_changes,
        lambda number: stage.apply(VPN.format(keepalive=hosts + number)),
    )
    tokens = [stage.token() for _ in range(run.scale.core_joins)]
    joined = _samples(
        run,
        stage,
        run.scale.core_joins,
        lambda number: stage.fleet.ask(start={f"host{hosts + number:03}": tokens[number]}),
    )
    return {"one row changed": changed, "one host joins": joined}


def _samples(run: Run, stage: Stage, times: int, change: Callable[[int], object]) -> Samples:
    samples: Samples = {"cpu": [], "statements": [], "messages": [], "bytes": []}
    for number in range(times):
        hosts = len(stage.hosts())
        run.step(f"{hosts} hosts, change {number + 1} of {times}")
        before, before_fleet = _quiet(stage, run.scale.quiet_seconds)
        change(number)
        stage.until(lambda: stage.fleet.ask()["applied"] >= stage.revision, "all have applied it")
        after, after_fleet = _quiet(stage, run.scale.quiet_seconds)
        spent = {key: after[key] - before[key] for key in after}
        samples["cpu"].append(spent["cpu"])
        samples["statements"].append(spent["statements"])
        samples["messages"].append(spent["sent"] + spent["received"])
        received = after_fleet["received_bytes"] - before_fleet["received_bytes"]
        samples["bytes"].append(received / hosts)
    return samples


def _quiet(stage: Stage, quiet: float) -> tuple[dict[str, float], dict[str, float]]:
    """What core and fleet have cost, when no message has passed for so many seconds."""
    before, since = stage.core.ask(), time.monotonic()
    while time.monotonic() - since < quiet:
        time.sleep(quiet / 4)
        now = stage.core.ask()
        if (now["sent"], now["received"]) != (before["sent"], before["received"]):
            before, since = now, time.monotonic()
    return before, stage.fleet.ask()
