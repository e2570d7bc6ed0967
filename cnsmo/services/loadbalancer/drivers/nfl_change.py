# SPDX-License-Identifier: Apache-2.0
"""From what was loaded to what is wanted: one transaction, and flows to end. Standard library only;
pure.

What was loaded is kept in a file, by the driver and the checker alike. Before a transaction it is
made to hold both what was and what will be; every command of a transaction may be given twice. So
whoever is killed half-way, the next one comes to the same end.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any

from cnsmo.services.loadbalancer.drivers import nfl_table as table
from cnsmo.services.loadbalancer.drivers.leave import Leave, go_on
from cnsmo.services.loadbalancer.drivers.nfl_flows import Flows
from cnsmo.services.loadbalancer.drivers.nfl_pick import Well, needed, usable, wellness
from cnsmo.services.loadbalancer.drivers.nfl_wanted import Target, Wanted

UNKNOWN = ""
"""Digest of a chain that may hold this or that."""
SPARE_SECONDS = 1.0
"""How long a chain stays that no rule leads to any more: much longer than a packet takes through
the rules that led to it."""


@dataclasses.dataclass(frozen=True)
class Loaded:
    """What is in the kernel. ``chains``: digests by name. ``servers``: those that may have flows.
    ``usable``: keys of those that new flows may go to. ``ports``: at which it listened at any time.
    ``ending``: flows that are to be ended yet. ``spare``: chains that no rule leads to any more,
    and since when. ``leaving``: how far those are who leave, by key. Times are since the host was
    started, see kit.boot.
    """

    chains: Mapping[str, str] = dataclasses.field(default_factory=dict)
    servers: tuple[Flows, ...] = ()
    usable: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    ending: tuple[Flows, ...] = ()
    spare: Mapping[str, float] = dataclasses.field(default_factory=dict)
    leaving: Mapping[str, Leave] = dataclasses.field(default_factory=dict)

    def stopped(self, key: str) -> bool:
        """Whether one that leaves gets nothing new any more."""
        return key in self.leaving and self.leaving[key].until is not None

    def gone(self, now: float) -> frozenset[str]:
        """Keys of those who left, and whose time is over."""
        return frozenset(key for key, leave in self.leaving.items() if leave.over(now))

    def dump(self) -> str:
        """As it is written to the file."""
        servers, ending = ([vars(it) for it in each] for each in (self.servers, self.ending))
        leaving = {key: vars(leave) for key, leave in self.leaving.items()}
        changed = {"servers": servers, "ending": ending, "leaving": leaving}
        return json.dumps({**vars(self), **changed})


def parse(text: str | None) -> Loaded:
    """What was written; as if nothing was loaded where that is torn or of another release."""
    try:
        raw: dict[str, Any] = json.loads(text or "{}")
        for key in ("servers", "ending"):
            raw[key] = tuple(Flows(**each) for each in raw.get(key, ()))
        for key in ("usable", "ports"):
            raw[key] = tuple(raw.get(key, ()))
        raw["leaving"] = {key: Leave(**it) for key, it in raw.get("leaving", {}).items()}
        return Loaded(**raw)
    except (ValueError, TypeError, AttributeError):
        return Loaded()


@dataclasses.dataclass(frozen=True)
class Change:
    """``text``: for nft(8), empty where the table stays. ``before``, ``after``: what to remember
    before and after it was loaded."""

    text: str
    before: Loaded
    after: Loaded


def plan(
    wanted: Wanted, loaded: Loaded, health: Mapping[str, bool], now: float, whole: bool = False
) -> Change:
    """The change that is due. health: by key, whether a server is well; now: seconds since the
    host was started.

    whole: load all anew, whatever is there; remembered clients are forgotten, and counters.
    """
    whole = whole or not loaded.chains
    well = wellness(wanted, health, loaded.usable)
    leaving = _leaving(wanted, loaded, well, now)
    present = [it for it in wanted.targets if not it.leaving or not leaving[it.key].over(now)]
    chosen = usable([it for it in present if not _stopped(it, leaving)], well)
    chains = table.everything(wanted, present, chosen)
    fresh = {
        name: chain
        for name, chain in chains.items()
        if whole or loaded.chains.get(name) != chain.digest
    }
    left = set() if whole else set(loaded.chains) - set(chains)
    spare = {name: at for name in left if (at := _rests(loaded, name, now)) is not None}
    gone = left - set(spare)
    start = table.clear(wanted) + table.head(wanted) if whole else ""
    after = Loaded(
        chains={
            **{name: chain.digest for name, chain in chains.items()},
            **{name: loaded.chains[name] for name in spare},
        },
        servers=tuple(_flows(wanted, it) for it in present),
        usable=tuple(it.key for it in chosen),
        ports=tuple(sorted({*loaded.ports, *wanted.ports})),
        ending=_ending(wanted, loaded, present, chosen, health),
        spare=spare,
        leaving=leaving,
    )
    before = dataclasses.replace(
        after,
        chains={**loaded.chains, **after.chains, **dict.fromkeys([*fresh, *gone], UNKNOWN)},
        usable=loaded.usable,
    )
    text = start + table.load(wanted.table, fresh) + table.unload(wanted.table, gone)
    return Change(text, before, after)


def _leaving(wanted: Wanted, loaded: Loaded, well: Well, now: float) -> dict[str, Leave]:
    """How far those are who leave. Nobody is stopped yet whom new flows may go to, whatever was
    decided: it did not come into force."""
    left = [it for it in wanted.targets if it.leaving]
    so_far = {
        key: dataclasses.replace(leave, until=None) if key in loaded.usable else leave
        for key, leave in loaded.leaving.items()
    }
    return {
        it.key: go_on(
            so_far.get(it.key), needed(it, wanted.targets, well), wanted.drain, now,
            it.name in wanted.distrusted,
        )
        for it in left
    }  # fmt: skip


def _stopped(target: Target, leaving: Mapping[str, Leave]) -> bool:
    return target.leaving and leaving[target.key].until is not None


def _rests(loaded: Loaded, name: str, now: float) -> float | None:
    """Since when a chain that is not wanted any more is spare; None: it can go."""
    since = loaded.spare.get(name, now)
    young = 0 <= now - since < SPARE_SECONDS
    return since if young and loaded.chains[name] != UNKNOWN else None


def _ending(
    wanted: Wanted,
    loaded: Loaded,
    present: Iterable[Target],
    chosen: Iterable[Target],
    health: Mapping[str, bool],
) -> tuple[Flows, ...]:
    """The flows of those who left; and of those who fell, what would wait for them in vain.

    A client of UDP does not notice, and would be sent there for ever; one of TCP that got no answer
    yet asks again, and may be answered by another.
    """
    here = {it.key: it for it in present}
    picked = {it.key for it in chosen}
    due = [it for it in loaded.servers if it.key not in here]
    for key in loaded.usable:
        if key in here and key not in picked and health.get(key) is False:
            flows = _flows(wanted, here[key])
            due.append(dataclasses.replace(flows, opening=flows.protocol == "tcp"))
    still = [it for it in loaded.ending if it.key not in picked]
    return tuple(dict.fromkeys((*still, *due)))


def _flows(wanted: Wanted, target: Target) -> Flows:
    return Flows(target.version, wanted.protocol, target.address, target.port)
