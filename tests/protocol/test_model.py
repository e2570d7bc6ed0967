# SPDX-License-Identifier: Apache-2.0
"""Whatever happens to the sync protocol within small bounds, it keeps what doc/protocol.md says.

The bounds of "tox -e model" are larger.
"""

import importlib

import pytest

from tests.protocol.explorer import Explorer, Found
from tests.protocol.mutants import MUTANTS
from tests.protocol.world import Bounds, World

SMALL = {
    "two changes": Bounds(changes=2, moves=0, spare=0, settled=True),
    "a host goes and another comes": Bounds(changes=0, moves=2, spare=0, settled=True),
    "one of each": Bounds(changes=1, moves=1, spare=0, settled=True),
    "a message comes late": Bounds(changes=0, moves=0, spare=1, settled=True),
    "two hosts begin": Bounds(changes=0, moves=0, spare=0),
}


def explored(bounds: Bounds) -> Found:
    return Explorer(World(bounds)).run()


@pytest.mark.parametrize("bounds", SMALL.values(), ids=SMALL)
def test_nothing_that_may_happen_breaks_what_is_promised(bounds: Bounds) -> None:
    found = explored(bounds)
    assert not found.problem, str(found)
    assert found.states > 1000, "and there was something to look at"


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mistake_in_the_protocol_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = MUTANTS[name]
    place, attribute = mutant.where
    where = importlib.import_module(place) if isinstance(place, str) else place
    monkeypatch.setattr(where, attribute, mutant.instead)
    found = explored(mutant.bounds)
    assert mutant.shows in found.problem, str(found)


def test_the_way_to_what_is_wrong_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = MUTANTS["a late report stays"]
    monkeypatch.setattr("cnsmo.agent.rounds.is_misheard", mutant.instead)
    steps = explored(mutant.bounds).trace
    assert [step.split(maxsplit=1)[1] for step in steps] == [
        "h1 asks, to report anew, and fails",
        "a core hangs with Late(kind='report', host=0, life=1, state='error', applied=3)",
        "h1's report is lost",
        "h1 asks, to report anew",
        "h1 reports ready",
        "a core acts upon Late(kind='report', host=0, life=1, state='error', applied=3)",
    ]


def test_hosts_that_change_places_are_one_state() -> None:
    world = World(Bounds(changes=1, moves=1, spare=1))
    first = world.beginning()
    one, other = (
        next(state for what, state in world.steps(first) if what == f"an operator removes {host}")
        for host in ("h1", "h2")
    )
    assert one != other
    assert world.parts.smallest(one) == world.parts.smallest(other)
