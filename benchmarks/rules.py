# SPDX-License-Identifier: Apache-2.0
"""What it costs to bring 10,000 rules in force: ``nft -f`` of the very same ruleset is its measure.

A VM has a firewall of 10,000 rules, each for a network and a port of its own, and gets another of
as many, none of which it had. CNSMO: the driver looks whether nftables is there, renders, arms the
guard of the trial, loads, and ends flows that are not allowed any more. By hand: ``nft -f`` with a
file that holds the very text that the driver loads, and so replaces the table in one transaction
as well. In turns, the first of each pair in turns too; the ratio is that of each pair.

* driver: from the compiled policy until apply() returns;
* whole path: from the row as the core sends it: the spec is read and compiled, too; for the report.

Beside it one iptables(8) for each rule, as the first CNSMO did it.
"""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.child import Child
from benchmarks.figures import Figure, Target, median_of, ratio_of
from benchmarks.place import Place
from benchmarks.run import Run
from cnsmo.lab.topology import mesh

NOT_MORE = Target(1.3)
MILLI = 1e3


def measure(run: Run) -> list[Figure]:
    """See above."""
    count, pairs = run.scale.rules, run.scale.rule_pairs
    ours: list[dict[str, float]] = []
    bare: list[float] = []
    with Place(run, mesh(1)) as place:
        (vm,) = place.lab.vms()
        with place.child("rules_process", vm) as host:
            _pair(host, 0, count)
            run.expect(pairs + 1)
            for number in range(1, pairs + 1):
                run.step(f"pair {number} of {pairs}")
                apply, by_hand = _pair(host, number, count)
                ours.append(apply)
                bare.append(by_hand)
            host.ask(remove=True)
            run.step(f"{count} times iptables")
            total, first, last = host.ask(iptables=count)
    return [*_ratios(ours, bare, count), _iptables(count, total, first, last)]


def _pair(host: Child, number: int, count: int) -> tuple[dict[str, float], float]:
    host.ask(declare=number, rules=count)
    found: dict[str, Any] = {}
    for what in ("apply", "bare") if number % 2 else ("bare", "apply"):
        found[what] = host.ask(do=what)
    return found["apply"], found["bare"]


def _ratios(ours: list[dict[str, float]], bare: list[float], count: int) -> list[Figure]:
    applied = [each["apply"] for each in ours]
    whole = [each["compile"] + each["apply"] for each in ours]
    compiled, kernel, observed = (
        statistics.median(each[step] for each in ours) for step in ("compile", "kernel", "observe")
    )
    steps = f"in the kernel after {kernel:.2f} s; looking at it afterwards: {observed:.2f} s"
    return [
        ratio_of(f"{count} rules: driver / nft -f", applied, bare, NOT_MORE),
        ratio_of(f"{count} rules: whole path / nft -f", whole, bare),
        median_of(f"{count} rules: driver", "s", applied, note=steps),
        median_of(
            f"{count} rules: whole path",
            "s",
            whole,
            note=f"reading and compiling: {compiled:.2f} s",
        ),
        median_of(f"{count} rules: nft -f", "s", bare),
    ]


def _iptables(count: int, total: float, first: float, last: float) -> Figure:
    growth = f"each {first * MILLI:.1f} ms at first, {last * MILLI:.1f} ms at last"
    return median_of(f"{count} rules: iptables one by one", "s", [total], note=growth)
