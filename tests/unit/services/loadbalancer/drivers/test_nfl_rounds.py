# SPDX-License-Identifier: Apache-2.0
"""When which server is checked."""

import dataclasses
import itertools

from cnsmo.services.loadbalancer.drivers.nfl_rounds import AT_ONCE, Rounds
from cnsmo.services.loadbalancer.drivers.nfl_wanted import Inspection
from tests.unit.services.loadbalancer.drivers.nfl_scenes import target

CHECK = Inspection("tcp", interval=2.0, timeout=1.0, rise=2, fall=3)
MANY = {it.key: it for it in map(target, range(1, 101))}
ONE = {target(1).key: target(1)}


def begun(rounds: Rounds, until: float, step: float = 0.01) -> dict[str, list[float]]:
    """When each server's checks began; each is answered at once."""
    found: dict[str, list[float]] = {}
    for turn in range(round(until / step)):
        now = 100 + turn * step
        for probe in rounds.begin(now):
            found.setdefault(probe.target.key, []).append(now)
            assert rounds.over(probe) == [probe]
    return found


def test_who_is_new_is_checked_at_once_and_then_at_the_interval():
    rounds = Rounds()
    rounds.plan(CHECK, MANY, 100.0)
    found = begun(rounds, 11.0)
    assert {times[0] for times in found.values()} == {100.0}
    for times in found.values():
        gaps = [round(b - a, 2) for a, b in itertools.pairwise(times)]
        assert gaps[0] <= CHECK.interval + 0.02
        assert set(gaps[1:]) <= {1.99, 2.0, 2.01}


def test_after_the_first_not_all_are_checked_in_one_moment():
    rounds = Rounds()
    rounds.plan(CHECK, MANY, 100.0)
    seconds = [times[1] for times in begun(rounds, 3.0).values()]
    assert len(set(seconds)) > 50


def test_others_who_come_and_go_change_nothing_for_who_stays():
    rounds = Rounds()
    rounds.plan(CHECK, ONE, 100.0)
    begun(rounds, 0.01)
    due = rounds.next()
    assert rounds.plan(CHECK, MANY, 100.1) == []
    assert rounds.next() == 100.1
    rounds.plan(CHECK, ONE, 100.1)
    assert rounds.next() == due


def test_what_is_under_way_is_dropped_with_its_server_or_its_check():
    rounds = Rounds()
    rounds.plan(CHECK, ONE, 100.0)
    (probe,) = rounds.begin(100.0)
    assert rounds.plan(CHECK, MANY, 100.0) == []
    assert rounds.plan(CHECK, {}, 100.0) == [probe]
    assert rounds.over(probe) == []
    rounds.plan(CHECK, ONE, 100.0)
    (probe,) = rounds.begin(100.0)
    assert rounds.plan(dataclasses.replace(CHECK, fall=9), ONE, 100.0) == [probe]


def test_a_slow_answer_does_not_count_after_a_later_one():
    rounds = Rounds()
    rounds.plan(dataclasses.replace(CHECK, interval=0.1), ONE, 100.0)
    probes = [probe for turn in range(30) for probe in rounds.begin(100 + turn * 0.1)]
    assert len(probes) == AT_ONCE
    assert rounds.over(probes[2]) == probes[:3]
    assert rounds.over(probes[1]) == []
    assert rounds.expired(200.0) == probes[3:]


def test_nothing_is_due_where_nobody_is_checked():
    rounds = Rounds()
    assert rounds.next() == float("inf")
    assert rounds.begin(100.0) == []
    rounds.plan(dataclasses.replace(CHECK, kind="none"), {}, 100.0)
    assert rounds.next() == float("inf")
