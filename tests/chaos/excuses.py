# SPDX-License-Identifier: Apache-2.0
"""When a flow may stand still: while an end of it, or its path, is under a fault of the data plane.

Nothing else is an excuse: not that an agent, a core, the broker or the database is away, a disk
full, a clock wrong. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from tests.chaos.history import Flow, Happened, History
from tests.chaos.schedule import Kind

Span = tuple[float, float]

AFTER = {
    Kind.CUT_VM: 20.0,
    Kind.CUT_SITE: 20.0,
    Kind.LOSS: 10.0,
    Kind.KILL_WIREGUARD: 25.0,
    Kind.STOP_WIREGUARD: 20.0,
    Kind.REBOOT: 45.0,
}
"""Seconds that a VM, or a site, has to be as before: WireGuard shakes hands anew every 5 s, an
agent looks every 5 s whether all is there, and one that boots has to start first."""
AFTER_AT_EDGE = {Kind.KILL_HAPROXY: 25.0, Kind.STOP_HAPROXY: 20.0, Kind.KILL_CHECKER: 25.0}
"""Of the faults that only concern what passes through the load balancers of the VM."""


def excused(flow: Flow, history: History) -> list[Span]:
    """When it may stand still, in order, without overlaps."""
    ends = [
        _span(it)
        for it in history.faults
        if it.fault.kind in AFTER and it.fault.target in (flow.source, flow.target)
    ]
    ends += _cuts(flow.source, flow.target, history)
    if flow.pool:
        ends += [
            _span(it)
            for it in history.faults
            if it.fault.kind in AFTER_AT_EDGE and it.fault.target == flow.target
        ]
        ends += together([_unwell(it, flow.target, history) for it in flow.pool])
    return merged(ends)


def _unwell(server: str, edge: str, history: History) -> list[Span]:
    """When a server of a pool cannot be counted on."""
    own = [
        _span(it) for it in history.faults if it.fault.kind in AFTER and it.fault.target == server
    ]
    return merged([*own, *_cuts(edge, server, history)])


def _cuts(one: str, other: str, history: History) -> list[Span]:
    sites = {history.sites[one], history.sites[other]}
    return [
        _span(it)
        for it in history.faults
        if it.fault.kind is Kind.CUT_SITE and len(sites) == 2 and it.fault.target in sites
    ]


def _span(happened: Happened) -> Span:
    kind = happened.fault.kind
    return happened.begun, happened.ended + (AFTER | AFTER_AT_EDGE)[kind]


def merged(spans: Collection[Span]) -> list[Span]:
    """The same times, in order, without overlaps."""
    found: list[Span] = []
    for begin, end in sorted(spans):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return found


def together(several: Sequence[list[Span]]) -> list[Span]:
    """When all of several lists of times hold at once."""
    found = several[0] if several else []
    for spans in several[1:]:
        both = ((max(a, c), min(b, d)) for a, b in found for c, d in spans)
        found = merged([(begin, end) for begin, end in both if begin < end])
    return found


def outside(begin: float, end: float, spans: Sequence[Span]) -> list[Span]:
    """What of a time is in none of the spans, which are in order and do not overlap."""
    found = []
    for first, last in spans:
        if last <= begin or first >= end:
            continue
        if first > begin:
            found.append((begin, first))
        begin = max(begin, last)
    if begin < end:
        found.append((begin, end))
    return found


def inside(spans: Sequence[Span]) -> Callable[[float], bool]:
    """Whether a moment is in one of them."""
    return lambda at: any(begin <= at <= end for begin, end in spans)
