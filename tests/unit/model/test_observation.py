# SPDX-License-Identifier: Apache-2.0
"""What is left out of an observation that is too large, and how that is said."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnsmo.model.observation import LEFT_OUT, bounded

MOST = 400


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
