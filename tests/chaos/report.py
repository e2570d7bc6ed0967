# SPDX-License-Identifier: Apache-2.0
"""What a run comes to, for people; times are seconds since its faults began. Pure."""

from __future__ import annotations

from collections import Counter

from tests.chaos.excuses import excused, inside, outside
from tests.chaos.history import Breach, Flow, Happened, History, Outcome
from tests.chaos.judges import TOLERATED, gaps
from tests.chaos.schedule import Kind

MOST = 40
"""Breaches that are told one by one."""
BESIDE = 60.0
"""Seconds before a breach in which a fault may have to do with it."""


def report(seed: int, vms: int, history: History) -> str:
    """Tables: faults by kind, applies, probes, the longest gap."""
    begin, end = history.watched
    lines = [f"chaos: seed {seed}, {vms} VMs, {end - begin:.0f} s", ""]
    lines += _faults(history) + _applies(history) + _probes(history)
    return "\n".join(lines)


def _faults(history: History) -> list[str]:
    counts = Counter(it.fault.kind for it in history.faults if not it.failed)
    lines = ["| fault | times |", "|---|---|"]
    lines += [f"| {kind} | {counts[kind]} |" for kind in Kind]
    return [*lines, f"| all | {counts.total()} |", ""]


def _applies(history: History) -> list[str]:
    counts = Counter(it.outcome for it in history.applies)
    told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
    unsure = Counter(it.said[:100] for it in history.applies if it.outcome is Outcome.UNKNOWN)
    last = max((it.revision for it in history.copies), default=0)
    return [f"applies: {told}; last revision {last}; {len(history.copies)} copies compared",
            *(f"* not answered, {count} times: {said}" for said, count in unsure.most_common()),
            ""]  # fmt: skip


def _probes(history: History) -> list[str]:
    lines = [
        "| probes | flows | sent | lost | time without excuse | lost then | longest gap then |",
        "|---|---|---|---|---|---|---|",
    ]
    longest = gaps(history)
    for kind in sorted({it.kind for it in history.flows}):
        flows = [it for it in history.flows if it.kind == kind and it.allowed]
        sent, lost, odd = _lost(flows, history)
        begin, end = max((longest[it] for it in flows), key=lambda it: it[1] - it[0])
        gap = f"{end - begin:.1f} s at {begin - history.watched[0]:.0f}"
        share = f"{_judged(flows, history):.0f} %"
        told = (f"{kind}, allowed", len(flows), sent, lost, share, odd, gap)
        lines.append(f"| {' | '.join(map(str, told))} |")
    shut = [it for it in history.flows if not it.allowed]
    sent, lost, _odd = _lost(shut, history)
    lines.append(f"| forbidden | {len(shut)} | {sent} | {lost} | 100 % | | none may pass |")
    return [*lines, "", f"A flow stopped when its gap exceeds {TOLERATED:g} s.", ""]


def _judged(flows: list[Flow], history: History) -> float:
    """The share, in percent, of the time in which these flows had no excuse."""
    begin, end = history.watched
    free = [outside(begin, end, excused(it, history)) for it in flows]
    seconds = sum(last - first for spans in free for first, last in spans)
    return 100.0 * seconds / (len(flows) * (end - begin))


def _lost(flows: list[Flow], history: History) -> tuple[int, int, int]:
    sent = lost = odd = 0
    among = {it: inside(excused(it, history)) for it in flows}
    for answer in history.answers:
        if answer.flow in among:
            sent += 1
            lost += not answer.ok
            odd += not answer.ok and not among[answer.flow](answer.at)
    return sent, lost, odd


def failure(seed: int, history: History, breaches: list[Breach]) -> str:
    """What broke, when, and beside which faults."""
    zero = history.watched[0]
    lines = [f"seed {seed}: {len(breaches)} breaches"]
    for breach in breaches[:MOST]:
        lines.append(f"{breach.at - zero:7.1f}  [{breach.invariant}] {breach.what}")
        lines += [f"         beside {_told(it, zero)}" for it in beside(breach, history)]
    return "\n".join(lines)


def beside(breach: Breach, history: History) -> list[Happened]:
    """The faults that had begun or were about to, and had not ended a minute before."""
    near = (it for it in history.faults if it.begun - TOLERATED <= breach.at)
    return [it for it in near if breach.at <= it.ended + BESIDE]


def _told(happened: Happened, zero: float) -> str:
    fault, begun, ended = happened.fault, happened.begun - zero, happened.ended - zero
    return f"{fault.kind}: {fault.target}, {begun:.1f} to {ended:.1f}"
