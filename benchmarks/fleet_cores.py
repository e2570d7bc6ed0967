# SPDX-License-Identifier: Apache-2.0
"""What a second core adds: joins and reports in a second, with one core and with two.

The agents are those of `fleet`, half of them join at each core; reports are said as fast as the
cores take them, by some threads in every process of agents. The processors are shared by all, so
two cores cannot be twice as fast where one already leaves none of them idle.
"""

from __future__ import annotations

import time

from benchmarks.armada import Armada
from benchmarks.figures import Figure, median_of
from benchmarks.run import Run


def measure(run: Run) -> list[Figure]:
    """See above."""
    run.expect(4)
    figures = []
    rates = {cores: _measure(run, cores) for cores in (1, 2)}
    for number, what in enumerate(("joins", "reports")):
        for cores, found in rates.items():
            figures.append(median_of(f"{what}, {cores} core(s)", "per second", [found[number]]))
        ratio = rates[2][number] / rates[1][number]
        figures.append(median_of(f"{what}, two cores to one", "x", [ratio]))
    return figures


def _measure(run: Run, cores: int) -> tuple[float, float]:
    """Joins and reports in a second."""
    hosts, times = run.scale.fleet_cores_hosts, run.scale.fleet_reports
    with Armada(run, hosts, cores, shares=2) as armada:
        run.step(f"{cores} core(s): {hosts} agents join")
        begun = armada.storm()
        joined = hosts / (armada.until_joined() - begun)
        armada.until_ready_since(begun)
        run.step(f"{cores} core(s): {hosts * times} reports")
        begun = time.monotonic()
        armada.ask(reports=times)
        return joined, hosts * times / (time.monotonic() - begun)
