# SPDX-License-Identifier: Apache-2.0
"""Which servers new flows may go to, and the rule that picks one. Standard library only; pure.

Weights are kept exactly by chance, and in turn as long as the turns fit into a map; by the client's
address on a ring (consistent hashing, Karger et al. 1997): whoever comes or leaves moves only the
clients that it gets or had.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Container, Iterable, Mapping, Sequence

from cnsmo.services.loadbalancer.drivers.leave import Member, bare
from cnsmo.services.loadbalancer.drivers.nfl_wanted import Target, Wanted

MOST_TURNS = 4096
"""A longer order of turns is left to chance."""
RING = 1 << 24
"""Places on the ring."""
MARKS = ((16, 512), (128, 64), (1 << 30, 8))
"""Up to so many servers, that many marks on the ring for the heaviest."""
SEED = 0x636E736D
"""The same on every carrier: a client finds the same server through each."""
ADDRESS = {4: "ip saddr", 6: "ip6 saddr"}
REFUSE = "refuse"


Well = Callable[[Target], bool]


def wellness(wanted: Wanted, health: Mapping[str, bool], before: Container[str]) -> Well:
    """Who is well. health: by key, as far as it is known. before: keys of those that are in use;
    one of whom nothing is known yet stays so: a check that was declared just now takes nobody out.
    """

    def well(target: Target) -> bool:
        known = target.key in before
        return wanted.check.kind == "none" or health.get(target.key, known)

    return well


def needed(target: Target, targets: Iterable[Target], well: Well) -> bool:
    """Whether one that leaves could serve new flows, and none of its IP version who shall is well;
    targets: all of the pool."""
    shall = (it for it in targets if not it.leaving)
    version = target.version
    empty = bare(Member(it.weight, it.drain, it.version == version and well(it)) for it in shall)
    return empty and bool(target.weight) and not target.drain


def usable(targets: Iterable[Target], well: Well) -> tuple[Target, ...]:
    """The servers that new flows may go to; of each IP version the backups only without others.

    targets: those who shall serve, and of those who leave the ones that are held: they are last.
    """
    able = [it for it in targets if it.weight and not it.drain and well(it)]
    found: list[Target] = []
    for version in (4, 6):
        mine = [it for it in able if it.version == version]
        here = [it for it in mine if not it.leaving]
        found += [it for it in here if not it.backup] or here or mine
    return tuple(found)


def pick(wanted: Wanted, targets: Sequence[Target], version: int) -> str:
    """The rule that sends a new flow to one of these servers, all of one IP version."""
    ways = {it: it.first_chain if wanted.sticky else it.chain for it in targets}
    if not targets:
        return f"goto {REFUSE}"
    if len(targets) == 1:
        return f"goto {ways[targets[0]]}"
    if wanted.algorithm == "source":
        spans = ring(targets)
        return f"jhash {ADDRESS[version]} mod {RING} seed {SEED:#x} {_map(spans, ways)}"
    order = turns(targets) if wanted.algorithm == "roundrobin" else None
    if order:
        places = ((at, at, target) for at, target in enumerate(order))
        return f"numgen inc mod {len(order)} {_map(places, ways)}"
    ends = list(itertools.accumulate(it.weight for it in targets))
    shares = [(end - it.weight, end - 1, it) for it, end in zip(targets, ends, strict=True)]
    return f"numgen random mod {ends[-1]} {_map(shares, ways)}"


def turns(targets: Sequence[Target]) -> list[Target] | None:
    """The order in which servers have their turns, each spread evenly; None: it is too long.

    Each set of servers begins somewhere else: the kernel counts anew after each change.
    """
    common = math.gcd(*(it.weight for it in targets))
    counts = [it.weight // common for it in targets]
    if sum(counts) > MOST_TURNS:
        return None
    places = sorted(
        ((turn + 0.5) / count, index) for index, count in enumerate(counts) for turn in range(count)
    )
    order = [targets[index] for _place, index in places]
    names = " / ".join(it.key for it in order)
    start = int(hashlib.sha256(names.encode()).hexdigest()[:8], 16) % len(order)
    return order[start:] + order[:start]


def ring(targets: Sequence[Target]) -> list[tuple[int, int, Target]]:
    """Which part of the ring, first and last place, leads to which server."""
    heaviest = max(it.weight for it in targets)
    most = next(marks for count, marks in MARKS if len(targets) <= count)
    marks: dict[int, Target] = {}
    for target in sorted(targets, key=lambda it: it.key, reverse=True):
        count = max(1, round(most * target.weight / heaviest))
        chance = hashlib.shake_128(target.key.encode()).digest(3 * count)
        for at in range(0, len(chance), 3):
            marks[int.from_bytes(chance[at : at + 3])] = target
    places = sorted(marks)
    pairs = itertools.pairwise([-1, *places])
    found = [(before + 1, place, marks[place]) for before, place in pairs]
    if places[-1] < RING - 1:
        found.append((places[-1] + 1, RING - 1, marks[places[0]]))
    return found


def _map(spans: Iterable[tuple[int, int, Target]], ways: Mapping[Target, str]) -> str:
    """A verdict map; neighbours that lead to the same server are one."""
    merged: list[tuple[int, int, Target]] = []
    for first, last, target in spans:
        if merged and merged[-1][2] is target:
            first = merged.pop()[0]
        merged.append((first, last, target))
    items = (
        f"{first if first == last else f'{first}-{last}'} : goto {ways[target]}"
        for first, last, target in merged
    )
    return f"vmap {{ {', '.join(items)} }}"
