# SPDX-License-Identifier: Apache-2.0
"""What the kernel has, for people: differences in words, and what was counted; pure."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import Any

from cnsmo.services.firewall.drivers.nft_kernel import Table
from cnsmo.services.firewall.drivers.nft_memory import Objects
from cnsmo.services.firewall.drivers.nft_render import Place, Ruleset

SHOWN = 20
"""Elements of a set, and differences of one kind, that are named one by one."""


def drift(table: Table | None, remembered: Objects | None, wanted: Ruleset) -> tuple[str, ...]:
    """Differences between what is there and what is wanted."""
    if table is None:
        return ("the table is missing",)
    if remembered is None:
        return ("the ruleset is not loaded",)
    return (*_objects(remembered, table.objects), *_sets(table.sets, wanted.sets))


def detail(table: Table | None, places: Mapping[str, Place], wanted: Ruleset) -> dict[str, Any]:
    """``rules``: hits of each, of the defaults too; ``sets``: how many are in, and the first."""
    if table is None:
        return {"rules": [], "sets": {}}
    hits: dict[tuple[str, str], list[int]] = {}
    for rule in table.counted:
        sums = hits.setdefault((rule.chain, rule.name), [0, 0])
        sums[0] += rule.packets
        sums[1] += rule.bytes
    rules = []
    for (chain, name), (packets, size) in hits.items():
        place = places.get(chain)
        rules.append({
            "part": str(place.part) if place else "",
            "instance": place.instance if place else "",
            "direction": str(place.direction) if place else "",
            "realm": place.realm if place else "",
            "rule": name, "packets": packets, "bytes": size,
        })  # fmt: skip
    sets = {
        name: {"count": len(items), "elements": list(items[:SHOWN])}
        for name, items in table.sets.items()
        if name in wanted.sets
    }
    return {"rules": rules, "sets": sets}


def _objects(before: Objects, now: Objects) -> list[str]:
    if before == now:
        return []
    there = collections.Counter(now)
    known = collections.Counter(before)
    lost, fresh = known - there, there - known
    names = collections.Counter((kind, chain, name) for kind, chain, name, _digest in fresh)
    found = []
    for kind, chain, name, _digest in lost:
        changed = names[kind, chain, name] > 0
        names[kind, chain, name] -= changed
        found.append(f"{_called(kind, chain, name)} {'was changed' if changed else 'is missing'}")
    found += [f"{_called(*key)} was added by somebody" for key, count in names.items() if count > 0]
    return _few(found) or ["the rules are in another order"]


def _called(kind: str, chain: str, name: str) -> str:
    if kind != "rule":
        return f"the {kind} {name}"
    return f"rule {name} (chain {chain})" if name else f"a rule of the chain {chain}"


def _sets(there: Mapping[str, tuple[str, ...]], wanted: Mapping[str, tuple[str, ...]]) -> list[str]:
    found = []
    for name, items in wanted.items():
        if name not in there:
            continue  # said above
        present, right = set(there[name]), set(items)
        found += _few([f"set {name} lacks {item}" for item in items if item not in present])
        found += _few([
            f"set {name} has {item}, which is no member" for item in there[name]
            if item not in right
        ])  # fmt: skip
    return found


def _few(lines: list[str]) -> list[str]:
    if len(lines) <= SHOWN:
        return lines
    return [*lines[:SHOWN], f"... and {len(lines) - SHOWN} more"]
