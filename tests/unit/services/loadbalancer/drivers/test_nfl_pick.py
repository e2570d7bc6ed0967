# SPDX-License-Identifier: Apache-2.0
"""Who gets the next flow: in turn, by chance, by the client's address."""

import collections
import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnsmo.services.loadbalancer.desired import Algorithm, Check, Checking, Persistence
from cnsmo.services.loadbalancer.drivers.nfl_pick import (
    RING,
    needed,
    pick,
    ring,
    turns,
    usable,
    wellness,
)
from tests.unit.services.loadbalancer.drivers.nfl_scenes import server, target, wanted

weights = st.lists(st.integers(1, 256), min_size=1, max_size=12)


def some(each: list[int]) -> list:
    return [target(number, weight=weight) for number, weight in enumerate(each, 1)]


# --- in turn ------------------------------------------------------------------------------


@given(weights)
def test_everybody_has_as_many_turns_as_his_weight(each):
    targets = some(each)
    order = turns(targets)
    if order is None:
        assert sum(each) > 500
        return
    counts = collections.Counter(it.key for it in order)
    first = counts[targets[0].key] / each[0]
    assert {it.key: first * it.weight for it in targets} == counts


def test_turns_are_spread_evenly():
    order = turns(some([3, 1]))
    assert order
    names = "".join({"web-1": "a", "web-2": "b"}[it.name] for it in order)
    assert names in {"aaba", "abaa", "baaa", "aaab"}
    assert len(turns(some([200, 100])) or ()) == 3


def test_another_set_of_servers_begins_with_another_one():
    firsts = {(turns(some([1] * count)) or [target(1)])[0].name for count in range(2, 30)}
    assert len(firsts) > 5


def test_too_many_turns_are_left_to_chance():
    targets = [target(number, weight=251 + number % 5) for number in range(1, 200)]
    assert turns(targets) is None
    rule = pick(wanted(), targets, 4)
    assert rule.startswith(f"numgen random mod {sum(it.weight for it in targets)} vmap ")


# --- by the client's address --------------------------------------------------------------


def owners(targets) -> list[tuple[int, int, str]]:
    return [(first, last, it.key) for first, last, it in ring(targets)]


def at(spans: list[tuple[int, int, str]], place: int) -> str:
    return next(key for first, last, key in spans if first <= place <= last)


@given(weights)
def test_the_ring_is_whole(each):
    spans = owners(some(each))
    assert spans[0][0] == 0
    assert spans[-1][1] == RING - 1
    assert all(one[1] + 1 == other[0] for one, other in itertools.pairwise(spans))


@given(st.integers(2, 15), st.integers(1, 16), st.lists(st.integers(0, RING - 1), min_size=50))
def test_who_leaves_takes_only_his_own_clients_away(count, gone, places):
    targets = some([1] * (count + 1))
    gone = min(gone, count)
    fewer = [it for index, it in enumerate(targets) if index != gone]
    before, after = owners(targets), owners(fewer)
    for place in places:
        owner = at(before, place)
        assert at(after, place) == owner or owner == targets[gone].key


def test_shares_on_the_ring_are_fair():
    shares: collections.Counter[str] = collections.Counter()
    for first, last, it in ring(some([1, 1, 2])):
        shares[it.name] += last - first + 1
    assert abs(shares["web-1"] / RING - 0.25) < 0.05
    assert abs(shares["web-3"] / RING - 0.50) < 0.05


# --- the rule -----------------------------------------------------------------------------


@given(weights, st.sampled_from(["roundrobin", "random", "source"]), st.booleans())
def test_every_number_leads_to_a_server(each, algorithm, sticky):
    persistence = Persistence.SOURCE if sticky else Persistence.NONE
    what = wanted(algorithm=Algorithm(algorithm), persistence=persistence)
    targets = some(each)
    rule = pick(what, targets, 4)
    ways = {it.first_chain if sticky else it.chain for it in targets}
    if len(targets) == 1:
        assert rule == f"goto {next(iter(ways))}"
        return
    spans = re.findall(r"(\d+)(?:-(\d+))? : goto ([a-z0-9.-]+)", rule)
    modulus = int(re.findall(r"mod (\d+)", rule)[0])
    covered = [n for low, high, _ in spans for n in (int(low), int(high or low))]
    assert covered[0] == 0
    assert covered[-1] == modulus - 1
    assert all(b == a + 1 for a, b in zip(covered[1:-1:2], covered[2:-1:2], strict=True))
    assert {way for _, _, way in spans} == ways


def test_nobody_leads_to_a_refusal():
    assert pick(wanted(), [], 6) == "goto refuse"


# --- who may ------------------------------------------------------------------------------


def may(what, targets, health, before=()):
    return usable(targets, wellness(what, health, before))


@pytest.mark.parametrize(
    ("changed", "used"),
    [
        ({}, True),
        ({"weight": 0}, False),
        ({"drain": True}, False),
        ({"backup": True}, True),
    ],
)
def test_who_may_get_new_flows(changed, used):
    it = target(1, **changed)
    assert may(wanted(), [it], {it.key: True}) == ((it,) if used else ())
    assert may(wanted(), [it], {it.key: False}, (it.key,)) == ()


def test_of_whom_nothing_is_known_stays_as_he_was():
    it = target(1)
    assert may(wanted(), [it], {}) == ()
    assert may(wanted(), [it], {}, (it.key,)) == (it,)
    unchecked = wanted(check=Check(Checking.NONE))
    assert may(unchecked, [it], {}) == (it,)
    assert may(unchecked, [it], {it.key: False}) == (it,)


def test_who_leaves_is_needed_until_another_is_well():
    leaver, newcomer = target(1, leaving=True), target(2)

    def is_needed(*targets, **health):
        well = wellness(wanted(), {f"10.66.0.{it[1:]} 80": health[it] for it in health}, ())
        return needed(targets[0], targets, well)

    assert is_needed(leaver, newcomer)
    assert not is_needed(leaver, newcomer, n2=True)
    assert is_needed(leaver, newcomer, n1=False)
    assert is_needed(leaver, newcomer, target(3, weight=0), n3=True)
    assert not is_needed(leaver, target(2, drain=True))
    assert not is_needed(leaver)
    assert not is_needed(target(1, leaving=True, drain=True), newcomer)
    assert not is_needed(target(1, leaving=True, weight=0), newcomer)
    six = wanted(server(9, address="fd66::9")).targets[0]
    assert is_needed(leaver, six)


def test_who_is_held_serves_as_long_as_he_is_well():
    leavers = [target(1, leaving=True), target(2, leaving=True)]
    before = [it.key for it in leavers]
    assert may(wanted(), leavers, {}, before) == tuple(leavers)
    assert may(wanted(), leavers, {before[0]: False}, before) == (leavers[1],)


def test_backups_serve_where_no_other_of_their_ip_version_can():
    four, backup = target(1), target(2, backup=True)
    six = wanted(server(9, address="fd66::9", backup=True)).targets[0]
    every = [four, backup, six]
    well = {it.key: True for it in every}
    assert may(wanted(), every, well) == (four, six)
    assert may(wanted(), every, {**well, four.key: False}) == (backup, six)
