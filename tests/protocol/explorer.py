# SPDX-License-Identifier: Apache-2.0
"""Goes through every state that can be reached, the nearest first; tells the way to a wrong one."""

from __future__ import annotations

import dataclasses
import itertools
import resource
import time
from collections.abc import Callable

from tests.protocol.invariants import Wrong
from tests.protocol.parts import unpacked
from tests.protocol.world import World


@dataclasses.dataclass(frozen=True)
class Found:
    """What an exploration came to. ``problem``: empty, or what is wrong, and the way to it."""

    states: int
    steps: int
    depth: int
    seconds: float
    """Of the processor."""
    mebibytes: float
    problem: str = ""
    trace: tuple[str, ...] = ()

    def __str__(self) -> str:
        told = (
            f"{self.states} states, {self.steps} steps, depth {self.depth}; "
            f"{self.seconds:.0f} s of the processor, {self.mebibytes:.0f} MiB"
        )
        return "\n".join([told, *filter(None, [self.problem]), *self.trace])


class Explorer:
    """One exploration of one world."""

    def __init__(self, world: World, progress: Callable[[str], None] = lambda _line: None) -> None:
        self._world = world
        self._progress = progress
        self._parents: dict[int, int] = {}
        self._steps = 0
        self._depth = 0
        self._began = time.process_time()

    def run(self) -> Found:
        """Everything, or the shortest way to what is wrong."""
        try:
            first = self._world.parts.smallest(self._world.beginning())
        except Wrong as exc:
            return self._found(f"{exc}, before anything happened")
        self._parents[first] = first
        layer = [first]
        while layer:
            try:
                layer = self._next(layer)
            except _Stop as stop:
                return self._found(str(stop.problem), stop.trace)
            self._depth += bool(layer)
            self._progress(f"{self._found()}; {len(layer)} new")
        return self._found()

    def _next(self, layer: list[int]) -> list[int]:
        found: list[int] = []
        world, parents = self._world, self._parents
        for number in layer:
            state = unpacked(number)
            try:
                world.calm(state)
                for _what, reached in world.steps(state):
                    self._steps += 1
                    later = world.parts.smallest(reached)
                    if later not in parents:
                        parents[later] = number
                        found.append(later)
            except Wrong as exc:
                raise _Stop(exc, self._trace(number)) from exc
        return found

    def _trace(self, number: int) -> tuple[str, ...]:
        """The steps to a state; hosts may change places on the way, see Parts.smallest."""
        way = [number]
        while (before := self._parents[way[-1]]) != way[-1]:
            way.append(before)
        way.reverse()
        lines = []
        for count, (before, after) in enumerate(itertools.pairwise(way), 1):
            what, reached = next(
                (what, reached)
                for what, reached in self._world.steps(unpacked(before))
                if self._world.parts.smallest(reached) == after
            )
            swapped = " (and h1 and h2 change names)" * (reached != unpacked(after))
            lines.append(f"{count:3} {what}{swapped}")
        return tuple(lines)

    def _found(self, problem: str = "", trace: tuple[str, ...] = ()) -> Found:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        seconds = time.process_time() - self._began
        return Found(len(self._parents), self._steps, self._depth, seconds, peak, problem, trace)


class _Stop(Exception):
    def __init__(self, problem: Wrong, trace: tuple[str, ...]) -> None:
        super().__init__(str(problem))
        self.problem = problem
        self.trace = trace
