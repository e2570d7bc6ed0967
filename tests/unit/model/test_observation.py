# SPDX-License-Identifier: Apache-2.0
"""What is left out of an observation that is too large or not sound, and how that is said."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnsmo.model.observation import LEFT_OUT, MAX_DEPTH, bounded, sound

MOST = 400
NO_JSON = {LEFT_OUT: "no JSON text, or deeper than 20 levels"}


def nested(levels: int) -> dict[str, Any]:
    """So many mappings in each other."""
    value: dict[str, Any] = {"a": 1}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


@pytest.mark.parametrize("observation", [None, {}, {"backbone": nested(MAX_DEPTH - 1)}])
def test_what_is_sound_stays_as_it_is(observation: dict[str, Any] | None) -> None:
    assert sound(observation) is observation


@pytest.mark.parametrize(
    "detail",
    [nested(MAX_DEPTH + 1), nested(900), "\ud800", {"\ud800": 1}, [float("nan")], float("inf")],
    ids=["deep", "deeper", "text", "key", "nan", "inf"],
)
def test_details_that_are_not_sound_are_left_out_and_others_stay(detail: Any) -> None:
    assert sound({"one": detail, "two": {"up": True}}) == {"one": NO_JSON, "two": {"up": True}}


def test_where_units_have_no_names_all_is_left_out() -> None:
    left = "2 units, not all of whose names are text"
    assert sound({"\ud800": {}, "one": {}}) == {LEFT_OUT: left}


@pytest.mark.parametrize("observation", [None, {}, {"backbone": {"peers": {}}}])
def test_what_fits_stays_as_it_is(observation: dict[str, Any] | None) -> None:
    assert bounded(observation, MOST) is observation


def test_the_largest_units_are_left_out_until_the_rest_fits() -> None:
    small, middle, large = {"a": "x" * 20}, {"a": "x" * 150}, {"a": "x" * 500}
    found = bounded({"one": large, "two": small, "three": middle}, MOST)
    assert found == {
        "one": {LEFT_OUT: "509 characters, where all units together may have 400"},
        "two": small,
        "three": middle,
    }


def test_of_too_many_units_only_their_number_is_told() -> None:
    found = bounded({f"unit{number}": {} for number in range(100)}, MOST)
    assert found == {LEFT_OUT: "100 units, 1,390 characters; at most 400 are kept"}


@given(
    observation=st.dictionaries(
        st.text(max_size=5),
        st.recursive(st.text(max_size=200) | st.integers(), st.lists, max_leaves=5),
        max_size=12,
    )
)
def test_what_is_kept_is_within_the_bound(observation: dict[str, Any]) -> None:
    found = bounded(observation, MOST)
    assert found is not None
    assert len(json.dumps(found)) <= MOST
    if len(json.dumps(observation)) <= MOST:
        assert found == observation


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("\x1b[2Jall is well", "?[2Jall is well"),
        ("up\n| web1 | ready |", "up | web1 | ready |"),
        ("\u202e", "?"),
        ("café", "café"),
    ],
)
def test_what_would_play_tricks_on_a_terminal_is_not_kept(said: str, kept: str) -> None:
    assert sound({"a": {said: [said, 1]}}) == {"a": {kept: [kept, 1]}}
    assert sound({said: {}}) == {kept: {}}
