# SPDX-License-Identifier: Apache-2.0
"""What may happen next: every step of operators, cores, agents and faults, from any state.

Each step is one that the product makes as a whole: a write is one transaction, and an agent's
worker waits for each of its calls. See doc/protocol.md for what is modelled, and what is not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from tests.protocol.agents import GONE, Agents
from tests.protocol.double import THING, Base
from tests.protocol.invariants import Wrong, check_end, ident, shown_base
from tests.protocol.parts import HOSTS, Late, Parts, State, packed

THINGS = ("x", "y")
LIVES = 2
"""How many VMs may bear one name, one after the other."""
PATIENCE = 12
"""Heartbeats of each host until calm must be there."""
Step = tuple[str, State]


@dataclasses.dataclass(frozen=True)
class Bounds:
    """How much may happen.

    ``changes``: that operators declare. ``moves``: hosts that are removed, and VMs that take over
    the name of one that was. ``spare``: messages that come late, hosts that are taken for down,
    drivers that fail, and VMs that are put back to where they were when they were new. Everything
    else may happen for ever. ``settled``: it begins when the hosts that joined have done all that
    follows from it.
    """

    changes: int
    moves: int
    spare: int
    settled: bool = False


class World:
    """The steps from a state; what the product does in them."""

    def __init__(self, bounds: Bounds, parts: Parts | None = None) -> None:
        self.bounds = bounds
        self.parts = parts or Parts()
        self.overwritten = 0
        """Steps in which a report that came late replaced a later one, until the next beat."""
        self._good: set[int] = set()
        """From where calm was found to end well."""
        self._agents = Agents(self.parts)

    def beginning(self) -> State:
        """Two hosts have joined; they do not know anything yet, or all there is."""
        base = Base().join([(host, ident(at, 1)) for at, host in enumerate(HOSTS)])
        number = self.parts.bases.number(base)
        agents = [self.parts.agents.number(self._agents.born(at, 1)) for at in range(2)]
        if self.bounds.settled:
            number, agents = self._calm(number, agents)
            number = self.parts.bases.number(self.parts.bases[number].vague())
        return State(
            number,
            self.bounds.changes,
            self.bounds.moves,
            self.bounds.spare,
            (agents[0], agents[1]),
            self.parts.lates.number(()),
        )

    def steps(self, state: State) -> Iterator[Step]:
        """Whatever may happen.

        :raises Wrong: when something else than what is promised comes of it.
        """
        yield from self._operators(state)
        yield from self._cores(state)
        for at in range(2):
            yield from self._of_agent(state, at)

    # operators

    def _operators(self, state: State) -> Iterator[Step]:
        base = self.parts.bases[state.base]
        if state.changes:
            for thing in THINGS[: 1 + any(row.kind == THING for row in base.rows)]:
                # Until one is there, they are all the same.
                yield from self._changed(state, f"an operator writes {thing}", "put", thing)
                yield from self._changed(state, f"an operator deletes {thing}", "delete", thing)
        for at, host in enumerate(HOSTS if state.moves else ()):
            life = self._next_life(state, at)
            if host in dict(base.living):
                removed = self._agents.wrote(state.base, "remove", host)
                later = state._replace(base=removed, moves=state.moves - 1)
                yield f"an operator removes {host}", later
            elif life <= LIVES:
                made = self._agents.wrote(state.base, "join", ((host, ident(at, life)),))
                number = self.parts.agents.number(self._agents.born(at, life))
                agents = _with(state.agents, at, number)
                later = state._replace(base=made, agents=agents, moves=state.moves - 1)
                yield f"another VM joins as {host}", later

    def _changed(self, state: State, what: str, *how: Any) -> Iterator[Step]:
        base = self._agents.wrote(state.base, *how)
        if base != state.base:
            yield what, state._replace(base=base, changes=state.changes - 1)

    def _next_life(self, state: State, at: int) -> int:
        """The VM that had the name is gone, if its agent has not heard of its end."""
        return abs(self.parts.agents[state.agents[at]].life) + 1

    # cores

    def _cores(self, state: State) -> Iterator[Step]:
        base = self.parts.bases[state.base]
        for row in base.rows:
            if row.deleted:
                purged = self._agents.wrote(state.base, "purge", row.revision)
                yield f"tombstones up to {row.revision} are purged", state._replace(base=purged)
        for number, late in enumerate(self.parts.lates[state.late]):
            yield f"a core acts upon {late}", self._late(state, number)
        for host in HOSTS:
            if state.spare and (down := self._agents.wrote(state.base, "down", host)) != state.base:
                later = state._replace(base=down, spare=state.spare - 1)
                yield f"{host} is taken for down", later

    def _late(self, state: State, number: int) -> State:
        """A message arrives that nobody waits for any more."""
        lates = list(self.parts.lates[state.late])
        late = lates.pop(number)
        later = state._replace(late=self.parts.lates.number(tuple(lates)))
        made = self._deliver(state.base, late)
        if made == GONE:
            return later
        before, after = (
            self.parts.bases[it].state_of(HOSTS[late.host]) for it in (state.base, made)
        )
        if late.kind == "join" and before != after:
            raise Wrong(f"a join that came late makes {before} {after}")
        self.overwritten += late.kind == "report" and before != after
        return later._replace(base=made)

    def _deliver(self, base: int, late: Late) -> int:
        host, who = HOSTS[late.host], ident(late.host, late.life)
        if late.kind == "report":
            return self._agents.wrote(base, "report", host, who, late.state, late.applied)
        if late.kind == "beat":
            return self._agents.wrote(base, "beat", host, who, late.applied)
        if dict(self.parts.bases[base].living).get(host) != who:
            return GONE  # its key was revoked
        return self._agents.wrote(base, "join", ((host, who),), True)

    # agents

    def _of_agent(self, state: State, at: int) -> Iterator[Step]:
        for way in self._agents.ways(state.base, state.agents[at], state.spare > 0):
            yield (
                way.what,
                State(
                    way.base,
                    state.changes,
                    state.moves,
                    state.spare - way.spare,
                    _with(state.agents, at, way.agent),
                    state.late if way.late is None else self._hanging(state.late, way.late),
                ),
            )

    def _hanging(self, number: int, late: Late) -> int:
        return self.parts.lates.number(tuple(sorted((*self.parts.lates[number], late))))

    # faults have ended

    def calm(self, state: State) -> None:
        """Nothing is lost or late any more, no hint is ever sent: hearts beat, one by one.

        :raises Wrong: when that does not lead to where all know and have in force the last state.
        """
        first, second = state.agents
        self._calm(state.base, [self._agents.calmed(first), self._agents.calmed(second)])

    def _calm(self, base: int, agents: list[int]) -> tuple[int, list[int]]:
        passed = []
        for _turn in range(PATIENCE):
            here = packed(base, *agents)
            if here in self._good:
                break
            passed.append(here)
            for at in range(2):
                base, agents[at] = self._agents.turn(base, agents[at])
            if here == packed(base, *agents):
                self._check_end(base, agents)
                break
        else:
            raise Wrong(f"it goes on for ever: {shown_base(self.parts.bases[base])}")
        self._good.update(passed)
        return base, agents

    def _check_end(self, base: int, numbers: list[int]) -> None:
        agents = [self.parts.agents[number] for number in numbers]
        known = [(agent, self.parts.copies[agent.memory].view) for agent in agents]
        check_end(self.parts.bases[base], known)


def _with(agents: tuple[int, int], at: int, number: int) -> tuple[int, int]:
    return (agents[0], number) if at else (number, agents[1])
