# SPDX-License-Identifier: Apache-2.0
"""Parts of the model's states, each kept once: a state is a few numbers, equal where they are.

What the product computes from parts is computed once for each of them, and looked up after that.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Generic, NamedTuple, TypeVar

from cnsmo.model.resource import AGENT, HOST, Changes, Row, View
from cnsmo.state.protocol import Copy
from tests.protocol.double import DEPLOYMENT, Base, Sign

T = TypeVar("T")
HOSTS = ("h1", "h2")
BITS = 24
"""For the number of a part."""


class Table(Generic[T]):
    """Values, each with a number."""

    def __init__(self, key: Callable[[T], Hashable]) -> None:
        self._key = key
        self._numbers: dict[Hashable, int] = {}
        self.values: list[T] = []

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, number: int) -> T:
        return self.values[number]

    def number(self, value: T) -> int:
        """The number of a value that is equal."""
        key = self._key(value)
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = len(self.values)
            assert found < 1 << BITS
            self.values.append(value)
        return found


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a core answered, and what there really was at that moment."""

    changes: Changes
    truth: frozenset[tuple[str, str, int]]


class Agent(NamedTuple):
    """One agent's process, and its disk; copies by their numbers."""

    host: int
    life: int = 0
    """Which VM of that name it is; 0: none (any more)."""
    call: tuple[Any, ...] = ()
    """The report whose answer it waits for: state, revision in force."""
    memory: int = 0
    disk: int = -1
    backup: int = -1
    told: str = ""
    applied: int = 0
    retry: bool = False
    left: bool = False
    misheard: bool = False


class Late(NamedTuple):
    """A message that a core took from the bus, and has not acted upon yet: it hangs."""

    kind: str
    host: int
    life: int
    state: str = ""
    applied: int = 0


class State(NamedTuple):
    """All there is at one moment, by numbers; changes, moves, spare: how much may still happen."""

    base: int
    changes: int
    moves: int
    spare: int
    agents: tuple[int, int]
    late: int


def packed(*numbers: int) -> int:
    """Numbers of parts as one number, which takes less room than a tuple."""
    found = 0
    for number in reversed(numbers):
        found = found << BITS | number
    return found


def unpacked(number: int) -> State:
    """The state that was packed so."""
    base, first, second, late, budget = (number >> BITS * at & (1 << BITS) - 1 for at in range(5))
    return State(base, budget >> 8, budget >> 4 & 15, budget & 15, (first, second), late)


class Parts:
    """Every part that was met."""

    def __init__(self) -> None:
        self.bases: Table[Base] = Table(_base_key)
        self.copies: Table[Copy] = Table(_copy_key)
        self.answers: Table[Answer] = Table(_answer_key)
        self.agents: Table[Agent] = Table(lambda agent: agent)
        self.lates: Table[tuple[Late, ...]] = Table(lambda late: late)
        self.nothing = self.copies.number(Copy.empty(DEPLOYMENT))
        self._mirrored: dict[tuple[str, int], int] = {}

    def smallest(self, state: State) -> int:
        """The state, packed, or the one in which the two hosts have changed places.

        Whatever may happen in one may happen in the other, so that one of them tells of both.
        """
        base, (first, second), late = state.base, state.agents, state.late
        budget = state.changes << 8 | state.moves << 4 | state.spare
        return min(
            packed(base, first, second, late, budget),
            packed(
                self._of("base", base),
                self._of("agent", second),
                self._of("agent", first),
                self._of("late", late),
                budget,
            ),
        )

    def _of(self, kind: str, number: int) -> int:
        if number < 0:
            return number
        found = self._mirrored.get((kind, number))
        if found is None:
            found = getattr(self, f"_{kind}")(number)
            self._mirrored[kind, number] = found
            self._mirrored[kind, found] = number
        return found

    def _base(self, number: int) -> int:
        base = self.bases[number]
        return self.bases.number(
            dataclasses.replace(
                base,
                rows=tuple(sorted(map(_row, base.rows), key=lambda row: (row.kind, row.name))),
                signs=tuple(sorted((_text(host), _sign(sign)) for host, sign in base.signs)),
                living=tuple(sorted((_text(host), _text(ident)) for host, ident in base.living)),
            )
        )

    def _copy(self, number: int) -> int:
        copy = self.copies[number]
        view = View(DEPLOYMENT, copy.view.revision, map(_row, copy.view))
        unsaved = {(row.kind, row.name): row for row in map(_row, copy.unsaved.values())}
        return self.copies.number(Copy(view, unsaved, copy.whole))

    def _agent(self, number: int) -> int:
        agent = self.agents[number]
        copies = {
            name: self._of("copy", getattr(agent, name)) for name in ("memory", "disk", "backup")
        }
        return self.agents.number(agent._replace(host=1 - agent.host, **copies))

    def _late(self, number: int) -> int:
        late = (it._replace(host=1 - it.host) for it in self.lates[number])
        return self.lates.number(tuple(sorted(late)))


def _text(text: str) -> str:
    """A name or an id, of the other host."""
    swapped = {"h1": "h2", "h2": "h1"}.get(text[:2])
    return text if swapped is None else swapped + text[2:]


def _name(kind: str, name: str) -> str:
    return _text(name) if kind in (HOST, AGENT) else name


def _row(row: Row) -> Row:
    told = {"name": _name(row.kind, row.name), "owner": _text(row.owner)}
    if row.kind == HOST:
        return row.model_copy(update={**told, "body": {**row.body, "id": _text(row.body["id"])}})
    return row.model_copy(update=told)


def _sign(sign: Sign) -> Sign:
    return dataclasses.replace(sign, by=_text(sign.by))


def _row_key(row: Row) -> Hashable:
    said = str(row.body.get("id") or row.body.get("state") or row.body.get("value"))
    return (row.kind, row.name, row.owner, row.revision, row.deleted, said)


def _rows_key(rows: Iterable[Row]) -> Hashable:
    return tuple(sorted(map(_row_key, rows), key=repr))


def _base_key(base: Base) -> Hashable:
    signs = tuple((host, sign.applied, sign.working, sign.by) for host, sign in base.signs)
    return (base.head, base.purged, _rows_key(base.rows), signs, base.living)


def _copy_key(copy: Copy) -> Hashable:
    unsaved = _rows_key(copy.unsaved.values())
    return (copy.view.revision, _rows_key(copy.view), unsaved, copy.whole)


def _answer_key(answer: Answer) -> Hashable:
    changes = answer.changes
    return (changes.head, changes.snapshot, _rows_key(changes.rows), answer.truth)
