# SPDX-License-Identifier: Apache-2.0
"""So many good or bad checks in a row change a server's state."""

import pytest

from cnsmo.services.loadbalancer.drivers.nfl_health import Judge, Verdict

RISE, FALL = 2, 3
WELL = {"a": Verdict(True, "connected", 5.0, True)}


def heard(judge: Judge, results: str, key: str = "a") -> str:
    """The state after each result, + or -."""
    states = ""
    for at, result in enumerate(results):
        judge.hear(
            key, result == "+", "connected" if result == "+" else "refused", (RISE, FALL), at
        )
        states += "+" if judge.verdicts[key].up else "-"
    return states


@pytest.mark.parametrize(
    ("verdicts", "results", "states"),
    [
        ({}, "+", "+"),
        ({}, "--+", "--+"),
        ({}, "+---++", "+++--+"),
        (WELL, "--+--+---", "++++++++-"),
        (WELL, "---+-+-++", "++------+"),
    ],
)
def test_states_follow_results_in_a_row(verdicts, results, states):
    assert heard(Judge(verdicts), results) == states


def test_a_change_is_told_and_so_is_another_reason():
    judge = Judge(WELL)
    assert not judge.hear("a", True, "connected", (RISE, FALL), 6.0)
    assert judge.hear("a", True, "HTTP 200", (RISE, FALL), 7.0)
    assert not judge.hear("a", False, "refused", (RISE, FALL), 8.0)
    assert judge.verdicts["a"] == Verdict(True, "HTTP 200", 5.0, True)
    assert not judge.hear("a", False, "refused", (RISE, FALL), 9.0)
    assert judge.hear("a", False, "refused", (RISE, FALL), 10.0)
    assert judge.verdicts["a"] == Verdict(False, "refused", 10.0, True, falls=1)
    assert judge.hear("a", False, "no answer", (RISE, FALL), 11.0)


def test_the_next_process_goes_on_with_the_verdicts_of_the_last():
    judge = Judge({"a": Verdict(False, "refused", 5.0, True)})
    assert heard(judge, "++") == "-+"


def test_who_is_in_use_is_taken_for_well_and_who_left_is_forgotten():
    judge = Judge({**WELL, "b": Verdict(False, "refused", 5.0, True)})
    assert judge.keep({"a", "c", "d"}, ("a", "c", "x"), 9.0)
    assert {key: it.up for key, it in judge.verdicts.items()} == {"a": True, "c": True}
    assert not judge.keep({"a", "c", "d"}, (), 9.0)
    assert judge.verdicts["a"].since == 5.0
    assert heard(judge, "---", "c") == "++-"


@pytest.mark.parametrize(
    ("verdicts", "results", "falls"),
    [({}, "---", 0), ({}, "-+---", 1), (WELL, "---++---++", 2), (WELL, "--+--+", 0)],
)
def test_falls_are_counted_of_who_was_well(verdicts, results, falls):
    judge = Judge(verdicts)
    heard(judge, results)
    assert judge.verdicts["a"].falls == falls
