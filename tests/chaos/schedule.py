# SPDX-License-Identifier: Apache-2.0
"""Which fault befalls whom, and when: a pure function of a seed.

Times are seconds since the beginning. Every kind comes in turn, in an order that is shuffled anew
each time; two faults never befall the same target at once, nor before it had time to recover.
"""

from __future__ import annotations

import dataclasses
import enum
import random
from collections.abc import Sequence


class Kind(enum.StrEnum):
    """What can happen."""

    KILL_AGENT = "kill -9 of an agent"
    KILL_WIREGUARD = "kill -9 of wireguard-go"
    KILL_HAPROXY = "kill -9 of haproxy"
    KILL_CHECKER = "kill -9 of the kernel balancer's checker"
    KILL_CORE = "kill -9 of a core"
    KILL_BROKER = "kill -9 of the broker"
    KILL_BACKEND = "kill -9 of a database backend"
    STOP_AGENT = "SIGSTOP of an agent"
    STOP_WIREGUARD = "SIGSTOP of wireguard-go"
    STOP_HAPROXY = "SIGSTOP of haproxy"
    STOP_CORE = "SIGSTOP of a core"
    STOP_BROKER = "SIGSTOP of the broker"
    STOP_DATABASE = "SIGSTOP of the database"
    RESTART_BROKER = "broker restart"
    RESTART_DATABASE = "database restart"
    CUT_VM = "partition of a VM"
    CUT_SITE = "partition of a site"
    CUT_CORE = "partition of the core"
    LOSS = "10 % loss"
    REBOOT = "VM reboot"
    FULL_DISK = "disk full"
    CLOCK = "clock jump"


@dataclasses.dataclass(frozen=True)
class Stage:
    """Who can be hit. ``edges``: those of the VMs that carry load balancers."""

    vms: tuple[str, ...]
    edges: tuple[str, ...]
    sites: tuple[str, ...]
    cores: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Fault:
    """One of them. ``end``: when what was done is undone; of a kill, when it was done."""

    kind: Kind
    target: str
    begin: float
    end: float


BROKER, DATABASE, RELAY = "broker", "database", "core"
"""Targets that there is one of; the last is the way between the cores' side and all VMs."""
STOPPED = 20.0
"""Seconds of a SIGSTOP."""
RECOVERY = 40.0
"""Seconds after a fault's end before the next one befalls the same target."""
FIRST = 5.0
PAUSE = (5.0, 11.0)
"""Seconds before the first fault, and from one beginning to the next."""
LASTS = {
    Kind.CUT_VM: (15.0, 75.0),
    Kind.CUT_SITE: (15.0, 40.0),
    Kind.CUT_CORE: (15.0, 40.0),
    Kind.LOSS: (20.0, 60.0),
    Kind.FULL_DISK: (20.0, 60.0),
    Kind.CLOCK: (20.0, 60.0),
    Kind.KILL_BROKER: (2.0, 10.0),
}
"""Seconds; the other kinds but SIGSTOP are over as soon as they were done."""
STOPS = (
    Kind.STOP_AGENT, Kind.STOP_WIREGUARD, Kind.STOP_HAPROXY, Kind.STOP_CORE, Kind.STOP_BROKER,
    Kind.STOP_DATABASE,
)  # fmt: skip


def schedule(seed: int, seconds: float, stage: Stage) -> tuple[Fault, ...]:
    """All faults of a run in the order of their beginning; each has ended when the run does."""
    chance = random.Random(seed)
    found: list[Fault] = []
    free: dict[str, float] = {}
    deck: list[Kind] = []
    now = FIRST
    while now < seconds:
        if len(deck) < len(Kind) // 2:
            deck += chance.sample(list(Kind), len(Kind))
        fault = next(filter(None, (_draw(chance, it, now, stage, free) for it in deck)), None)
        if fault is not None and fault.end <= seconds:
            deck.remove(fault.kind)
            found.append(fault)
            free[fault.target] = fault.end + RECOVERY
        now += chance.uniform(*PAUSE)
    return tuple(found)


def _draw(
    chance: random.Random, kind: Kind, now: float, stage: Stage, free: dict[str, float]
) -> Fault | None:
    """A fault of that kind; None when all whom it could befall have not recovered yet."""
    able = [target for target in targets(kind, stage) if free.get(target, 0.0) <= now]
    if not able:
        return None
    least, most = LASTS.get(kind, (STOPPED, STOPPED) if kind in STOPS else (0.0, 0.0))
    target, lasts = chance.choice(able), chance.uniform(least, most)
    return Fault(kind, target, round(now, 1), round(now, 1) + round(lasts, 1))


def targets(kind: Kind, stage: Stage) -> Sequence[str]:
    """Whom a kind of fault can befall."""
    match kind:
        case Kind.KILL_CORE | Kind.STOP_CORE:
            return stage.cores
        case Kind.KILL_BROKER | Kind.STOP_BROKER | Kind.RESTART_BROKER:
            return (BROKER,)
        case Kind.KILL_BACKEND | Kind.STOP_DATABASE | Kind.RESTART_DATABASE:
            return (DATABASE,)
        case Kind.CUT_SITE:
            return stage.sites
        case Kind.CUT_CORE:
            return (RELAY,)
        case Kind.KILL_HAPROXY | Kind.STOP_HAPROXY | Kind.KILL_CHECKER:
            return stage.edges
        case _:
            return stage.vms
