# SPDX-License-Identifier: Apache-2.0
"""What is made of silence, by table: no clock, no database."""

import dataclasses

import pytest

from cnsmo.core.verdict import Doubt, Rules, Verdict, hold, is_suspicious, judge
from cnsmo.model.lifecycle import State
from cnsmo.model.silence import Silence

RULES = Rules()
SURE = Doubt(listening=3600)
READY, DOWN = State.READY, State.DOWN


def silent(host: str, seconds: float, state: State | None = READY, late: bool = False) -> Silence:
    return Silence(host, "vpn", state, seconds, late)


def names(found: tuple[Silence, ...]) -> str:
    return " ".join(agent.host for agent in found)


@pytest.mark.parametrize(
    ("agent", "late", "heard", "down"),
    [
        (silent("a", 29.9), "", "", ""),
        (silent("a", 30), "a", "", ""),
        (silent("a", 59.9, late=True), "", "", ""),
        (silent("a", 60, late=True), "", "", "a"),
        (silent("a", 60), "a", "", "a"),
        (silent("a", 0.1, late=True), "", "a", ""),
        (silent("a", 600, DOWN), "", "", ""),
        (silent("a", 600, DOWN, late=True), "", "", ""),
        (silent("a", 600, State.LEFT), "", "", ""),
        (silent("a", 600, None), "", "", ""),
        *[(silent("a", 60, state, late=True), "", "", "a") for state in (
            State.JOINING, State.CONFIGURING, State.DEGRADED, State.ERROR
        )],
    ],
)  # fmt: skip
def test_silence_makes_late_and_then_down(agent: Silence, late: str, heard: str, down: str) -> None:
    found = judge([agent], 10, SURE, RULES)
    assert (names(found.late), names(found.heard), names(found.down)) == (late, heard, down)
    assert not found.suspicious


def test_a_core_that_has_not_listened_for_long_says_nothing_but_who_is_heard() -> None:
    agents = [silent("a", 600), silent("b", 1, late=True)]
    found = judge(agents, 10, Doubt(listening=59.9), RULES)
    assert found == Verdict(heard=(agents[1],), hosts=10)
    assert names(judge(agents, 10, Doubt(listening=60), RULES).down) == "a"


@pytest.mark.parametrize(
    ("missing", "present", "suspicious"),
    [
        (1, 1, False),  # one alone may well be down
        (1, 2, False),
        (2, 2, True),  # nobody is heard
        (1, 3, False),
        (2, 3, False),
        (3, 3, True),
        (2, 5, False),
        (3, 9, False),  # a third is not more than a third
        (3, 8, True),
        (333, 1000, False),
        (334, 1000, True),
    ],
)
def test_more_than_a_third_at_once_makes_the_core_suspect_itself(
    missing: int, present: int, suspicious: bool
) -> None:
    assert is_suspicious(missing, present, RULES) is suspicious
    agents = [silent(f"h{number}", 61, late=True) for number in range(missing)]
    found = judge(agents, present, SURE, RULES)
    assert found.suspicious is suspicious
    assert len(found.down) == (0 if suspicious else missing)
    assert (found.silent, found.hosts) == (missing, present)


def test_late_ones_count_before_the_first_of_them_is_down() -> None:
    """All fell silent in one moment; when their heartbeats came differs by a period."""
    agents = [silent("a", 61), silent("b", 45), silent("c", 31)]
    assert judge(agents, 6, SURE, RULES).down == ()
    assert names(judge(agents[:1], 6, SURE, RULES).down) == "a"


def test_those_that_are_down_already_count_neither_way() -> None:
    gone = [silent(f"g{number}", 9999, DOWN) for number in range(6)]
    found = judge([*gone, silent("a", 61)], 10, SURE, RULES)
    assert (found.silent, found.hosts, names(found.down)) == (1, 4, "a")
    more = [silent(name, 61) for name in "abc"]
    assert judge([*gone, *more], 10, SURE, RULES).suspicious


def test_a_host_with_several_silent_agents_is_one_host() -> None:
    agents = [Silence("a", service, READY, 61) for service in ("vpn", "firewall", "loadbalancer")]
    found = judge(agents, 4, SURE, RULES)
    assert (found.silent, len(found.down)) == (1, 3)


@pytest.mark.parametrize(
    ("since", "down", "confident"),
    [(None, "a", False), (0, "", False), (59.9, "", False), (60, "a", True)],
)
def test_after_a_suspicion_the_agents_have_time_to_return(
    since: float | None, down: str, confident: bool
) -> None:
    found = judge([silent("a", 600, late=True)], 10, Doubt(3600, suspected=since), RULES)
    assert (names(found.down), found.confident) == (down, confident)


def test_a_suspicion_lasts_as_long_as_there_is_reason_for_it() -> None:
    agents = [silent(name, 9999, late=True) for name in "abcd"]
    found = judge(agents, 10, Doubt(99999, suspected=99999), RULES)
    assert (found.suspicious, found.confident, found.down) == (True, False, ())


def test_who_says_a_whole_share_never_suspects() -> None:
    rules = dataclasses.replace(RULES, share=1.0)
    found = judge([silent(name, 61) for name in "abcd"], 4, SURE, rules)
    assert (found.suspicious, len(found.down)) == (False, 4)


@pytest.mark.parametrize(
    ("downs", "seconds"),
    [(0, 0), (1, 0), (3, 0), (4, 60), (5, 120), (6, 240), (8, 960), (9, 1800), (4000, 1800)],
)
def test_who_comes_and_goes_is_taken_back_later_each_time(downs: int, seconds: float) -> None:
    assert hold(downs, RULES) == seconds
