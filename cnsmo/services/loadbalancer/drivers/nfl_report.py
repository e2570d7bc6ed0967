# SPDX-License-Identifier: Apache-2.0
"""A table as the kernel lists it, compared and counted; and what changed, in words; pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cnsmo.services.loadbalancer.desired import Pool
from cnsmo.services.loadbalancer.drivers import nfl_table
from cnsmo.services.loadbalancer.drivers.falls import Place
from cnsmo.services.loadbalancer.drivers.nfl_change import Loaded
from cnsmo.services.loadbalancer.drivers.nfl_health import Verdict
from cnsmo.services.loadbalancer.drivers.nfl_render import place
from cnsmo.services.loadbalancer.drivers.nfl_table import CLIENTS, Hook, digest
from cnsmo.services.loadbalancer.drivers.nfl_wanted import Target, Wanted

SHOWN = 20
"""Lines of one kind that are told one by one."""


@dataclasses.dataclass(frozen=True)
class Listed:
    """What the kernel has. ``chains``: digests by name. ``counts``: packets of each counted rule,
    by chain and comment: for a flow one. ``others``: names of what we did not make."""

    chains: Mapping[str, str]
    counts: Mapping[tuple[str, str], int]
    others: tuple[str, ...]


def read(entries: Iterable[Mapping[str, Any]]) -> Listed:
    """What ``nft -j list table`` says."""
    hooks: dict[str, Hook | None] = {}
    comments: dict[str, list[str]] = {}
    counts: dict[tuple[str, str], int] = {}
    others = []
    for entry in entries:
        ((kind, body),) = entry.items()
        name = str(body.get("name", ""))
        if kind == "chain":
            comments.setdefault(name, [])
            hooks[name] = _hook(body)
        elif kind == "rule":
            chain, comment = str(body["chain"]), str(body.get("comment", ""))
            comments.setdefault(chain, []).append(comment)
            for each in body.get("expr", ()):
                if isinstance(each, dict) and isinstance(each.get("counter"), dict):
                    counts[chain, comment] = int(each["counter"]["packets"])
        elif kind in ("set", "map") and name not in (f"{CLIENTS}-4", f"{CLIENTS}-6"):
            others.append(f"{kind} {name}")
    chains = {name: digest(found, hooks.get(name)) for name, found in comments.items()}
    return Listed(chains, counts, tuple(others))


def drift(listed: Listed | None, loaded: Loaded) -> list[str]:
    """Differences between what is there and what was loaded last."""
    if not loaded.chains:
        return ["the table is not loaded"]
    if listed is None:
        return ["the table is missing"]
    found = [f"the {it} was added by somebody" for it in listed.others]
    for name in sorted({*listed.chains, *loaded.chains}):
        if name not in listed.chains:
            found.append(f"the chain {name} is missing")
        elif name not in loaded.chains:
            found.append(f"the chain {name} was added by somebody")
        elif listed.chains[name] != loaded.chains[name]:
            found.append(f"the chain {name} was changed")
    return few(found)


def changes(old: Wanted | None, new: Wanted) -> list[str]:
    """What is wanted now and was not before, one line each."""
    if old is None:
        return [f"the table {new.table} is made, with {len(new.targets)} servers"]
    before = {it.key: it for it in old.targets}
    found = [
        f"{word} changed"
        for word, was, now in (
            ("where it listens", (old.binds, old.protocol), (new.binds, new.protocol)),
            ("who is allowed", old.allow, new.allow),
            ("who gets the next flow", (old.algorithm, old.sticky), (new.algorithm, new.sticky)),
            ("how servers are checked", old.check, new.check),
        )
        if was != now
    ]
    here = {it.key for it in new.targets}
    gone = [it for it in old.targets if it.key not in here and not it.leaving]
    lines = [_told(before.get(it.key), it) for it in new.targets]
    lines += [f"{_called(it)} leaves" for it in gone]
    return found + few([line for line in lines if line])


def totals(wanted: Wanted, listed: Listed) -> dict[str, int]:
    """Flows that were sent to each server, by its key, since its chain was made."""
    found = {}
    for target in wanted.targets:
        chain = nfl_table.server(wanted, target)[target.chain]
        comment = chain.comments[-1]
        found[target.key] = listed.counts.get((target.chain, comment), 0)
    return found


def arrivals(wanted: Wanted, listed: Listed) -> dict[tuple[str, int], int]:
    """Flows that arrived at each address and port."""
    return {
        bind: listed.counts.get(("dispatch", nfl_table.mark(nfl_table.bind_rule(wanted, bind))), 0)
        for bind in wanted.binds
    }


def standing(
    wanted: Wanted, target: Target, verdicts: Mapping[str, Verdict], loaded: Loaded, now: float
) -> tuple[str, str]:
    """A server's state, and why; now: seconds since the host was started."""
    verdict = verdicts.get(target.key)
    if target.leaving:
        leave = loaded.leaving.get(target.key)
        return "leaving", leave.told(now, "its flows are ended") if leave else ""
    if target.drain:
        return "drain", "by an operator's word"
    if wanted.check.kind == "none":
        return "unchecked", "no check is declared"
    if verdict is None:
        return "down", "not checked yet"
    return ("up" if verdict.up else "down"), verdict.why


def falls(pool: Pool, verdicts: Mapping[str, Verdict]) -> dict[str, tuple[Place, int]]:
    """How often each server was found not to be well any more."""
    keys = {f"{it.address} {it.port}": it for it in pool.servers}
    return {
        key: ((pool.name, it.address, it.port), verdicts[key].falls)
        for key, it in keys.items()
        if key in verdicts
    }


def problems(wanted: Wanted, loaded: Loaded, verdicts: Mapping[str, Verdict]) -> list[str]:
    """What does not work: an IP version of whose servers none can be used."""
    here = [it for it in wanted.targets if not it.leaving]
    if not here:
        return ["the pool has no servers: new flows are refused"]
    found = []
    for version in (4, 6):
        mine = [it for it in here if it.version == version]
        used = any(it.key in loaded.usable for it in mine)
        if mine and not used and not waiting(wanted, mine, verdicts):
            found.append(f"no server is up: new flows over IPv{version} are refused")
    return found


def waiting(wanted: Wanted, targets: Sequence[Target], verdicts: Mapping[str, Verdict]) -> bool:
    """Whether a first check of one of these servers is still to come."""
    return wanted.check.kind != "none" and any(
        not it.leaving and it.weight and not it.drain and it.key not in verdicts for it in targets
    )


def few(lines: list[str]) -> list[str]:
    """The first of many."""
    if len(lines) <= SHOWN:
        return lines
    return [*lines[:SHOWN], f"... and {len(lines) - SHOWN} more"]


def _told(old: Target | None, new: Target) -> str:
    who = _called(new)
    if new.leaving:
        return f"{who} leaves" if old is None or not old.leaving else ""
    if old is None:
        return f"{who} joins"
    if old.leaving:
        return f"{who} is back"
    found = []
    if old.weight != new.weight:
        found.append(f"has the weight {new.weight}")
    if old.drain != new.drain:
        found.append("is drained" if new.drain else "is not drained any more")
    if old.backup != new.backup:
        found.append("is a backup" if new.backup else "is no backup any more")
    if old.name != new.name:
        found.append(f"was {old.name}")
    return f"{who} {', '.join(found)}" if found else ""


def _called(target: Target) -> str:
    return f"server {target.name} ({place((target.address, target.port))})"


def _hook(body: Mapping[str, Any]) -> Hook | None:
    if "hook" not in body:
        return None
    found = Hook(str(body["type"]), str(body["hook"]), int(body["prio"]))
    changed = body.get("policy", "accept") != "accept"
    return dataclasses.replace(found, kind=f"{found.kind} {body['policy']}") if changed else found
