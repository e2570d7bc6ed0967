# SPDX-License-Identifier: Apache-2.0
"""The invariants of a run, each a pure function from its history to the breaches of it."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable

from tests.chaos.excuses import excused, outside
from tests.chaos.history import Breach, Flow, History, Outcome

TOLERATED = 10.0
"""Seconds without one answer, outside of all excuses, that count as a flow that stopped.

A balancer needs three checks, a second apart, to find out that a server is away, and WireGuard 5 s
for a handshake that got lost; the rest is for a machine that is busy with others' reboots. Single
probes that are lost are counted in the report, and no breach."""
Judge = Callable[[History], list[Breach]]


def in_force(history: History) -> list[Breach]:
    """1: every accepted apply is in force everywhere after the calm; of several the last."""
    calm, found = history.calm, []
    accepted = [it for it in history.applies if it.outcome is Outcome.ACCEPTED]
    last = max(accepted, key=lambda it: it.revision, default=None)
    maybe = {it.marker for it in history.applies if it.outcome is Outcome.UNKNOWN and it.wanted}
    right = maybe | ({last.marker} if last else set())
    if len(calm.told) != 1 or not calm.told <= right:
        told = f"the core tells {sorted(calm.told)}, accepted last was {last}"
        found.append(Breach("1 in force", calm.at, ("cores",), told))
    for vm, markers in sorted(calm.open.items()):
        if markers != calm.told:
            what = f"lets in {sorted(markers)} instead of {sorted(calm.told)}"
            found.append(Breach("1 in force", calm.at, (vm,), what))
    for agent, why in sorted(calm.behind.items()):
        found.append(Breach("1 in force", calm.at, (agent.partition(":")[0],), f"{agent}: {why}"))
    return found


def refused(history: History) -> list[Breach]:
    """1: no refused one is anywhere, at any time; none that must be refused was accepted."""
    wrong = {it.marker for it in history.applies if not it.wanted}
    found = [
        Breach("1 refused", it.at, ("cores",), f"{it.marker} must be refused: {it.outcome}")
        for it in history.applies
        if not it.wanted and it.outcome is Outcome.ACCEPTED
    ]
    found += [
        Breach("1 refused", it.at, ("cores",), f"{it.marker} is right, and refused: {it.said}")
        for it in history.applies
        if it.wanted and it.outcome is Outcome.REFUSED
    ]
    for copy in history.copies:
        if there := wrong & copy.markers:
            what = f"holds what was refused: {sorted(there)}"
            found.append(Breach("1 refused", copy.at, (copy.holder,), what))
    for vm, markers in history.calm.open.items():
        if there := wrong & markers:
            what = f"lets in what was refused: {sorted(there)}"
            found.append(Breach("1 refused", history.calm.at, (vm,), what))
    return found


def owners(history: History) -> list[Breach]:
    """2: no VPN address has two owners, at a time or one after the other; nobody was removed."""
    found, known = [], dict[str, tuple[str, float]]()
    for copy in sorted(history.copies, key=lambda it: it.at):
        for host, addresses in copy.owners.items():
            for address in addresses:
                owner, since = known.setdefault(address, (host, copy.at))
                if owner != host:
                    what = f"{address} is {host}'s in {copy.holder}, and was {owner}'s at {since:g}"
                    found.append(Breach("2 owners", copy.at, (owner, host, copy.holder), what))
    return found


def flowing(history: History) -> list[Breach]:
    """3: what every version allows between healthy VMs never stopped."""
    found = []
    for flow, gap in gaps(history).items():
        begin, end = gap
        if end - begin > TOLERATED:
            what = f"{flow.name} had no answer for {end - begin:.1f} s"
            found.append(Breach("3 flowing", begin, (flow.source, flow.target), what))
    return found


def gaps(history: History) -> dict[Flow, tuple[float, float]]:
    """By allowed flow the longest time without an answer that is not excused."""
    answered = defaultdict[Flow, list[float]](list)
    for answer in history.answers:
        if answer.ok:
            answered[answer.flow].append(answer.at)
    begin, end = history.watched
    found = {}
    for flow in (it for it in history.flows if it.allowed):
        spans = excused(flow, history)
        moments = [begin, *sorted(it for it in answered[flow] if begin <= it <= end), end]
        silent = [
            part
            for one, other in itertools.pairwise(moments)
            for part in outside(one, other, spans)
        ]
        found[flow] = max(silent, key=lambda it: it[1] - it[0], default=(begin, begin))
    return found


def shut(history: History) -> list[Breach]:
    """4: what every version forbids never passed, not even one way."""
    found = [
        Breach("4 shut", it.at, (it.flow.source, it.flow.target), f"{it.flow.name} was answered")
        for it in history.answers
        if it.ok and not it.flow.allowed
    ]
    found += [
        Breach("4 shut", it.at, (it.vm,), f"{it.sender} came through to port {it.port}")
        for it in history.arrivals
    ]
    return found


def forward(history: History) -> list[Breach]:
    """5: revisions never go back, and one revision is one state, whoever holds it.

    Of a VM, what is on its disk; of the core, what it tells.
    """
    found, last = [], dict[tuple[str, str], int]()
    states = dict[int, tuple[str, str]]()
    for copy in sorted(history.copies, key=lambda it: it.at):
        key = (copy.holder, copy.history)
        before = last.get(key, 0)
        if copy.revision < before:
            what = f"is at {copy.revision}, and was at {before}"
            found.append(Breach("5 forward", copy.at, (copy.holder,), what))
        last[key] = copy.revision
        digest, holder = states.setdefault(copy.revision, (copy.digest, copy.holder))
        if digest != copy.digest:
            what = f"has another revision {copy.revision} than {holder}"
            found.append(Breach("5 forward", copy.at, (copy.holder, holder), what))
    revisions = defaultdict[int, list[int]](list)
    for apply in history.applies:
        if apply.outcome is Outcome.ACCEPTED:
            revisions[apply.revision].append(apply.marker)
    for revision, markers in revisions.items():
        if len(markers) > 1:
            what = f"revision {revision} was given to {sorted(markers)}"
            found.append(Breach("5 forward", 0.0, ("cores",), what))
    return found


def nothing_left(history: History) -> list[Breach]:
    """6: no orphan process, interface, table, queue or account once everything was removed."""
    return [
        Breach("6 nothing left", history.calm.at, (it.partition(":")[0],), it)
        for it in history.left
    ]


def happened(history: History) -> list[Breach]:
    """No invariant, but what makes the others mean something: faults came about, traffic ran."""
    found = [
        Breach("0 run", it.begun, (it.fault.target,), f"{it.fault.kind}: {it.failed}")
        for it in history.faults
        if it.failed
    ]
    asked = {it.flow for it in history.answers}
    found += [
        Breach("0 run", 0.0, (it.source,), f"{it.name} was never tried")
        for it in history.flows
        if it not in asked
    ]
    if not any(it.outcome is Outcome.ACCEPTED for it in history.applies):
        found.append(Breach("0 run", 0.0, ("cores",), "no apply was accepted"))
    return found


JUDGES: tuple[Judge, ...] = (
    happened, in_force, refused, owners, flowing, shut, forward, nothing_left,
)  # fmt: skip


def judge(history: History) -> list[Breach]:
    """All breaches of all invariants, in the order of their time."""
    return sorted(_all(history), key=lambda it: (it.at, it.invariant))


def _all(history: History) -> Iterable[Breach]:
    for look in JUDGES:
        yield from look(history)
