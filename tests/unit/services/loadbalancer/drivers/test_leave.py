# SPDX-License-Identifier: Apache-2.0
"""Who leaves, who is held, and until when."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnsmo.services.loadbalancer.drivers.leave import Leave, Member, bare, go_on

DRAIN, NOW = 30.0, 1000.0
steps = st.lists(st.tuples(st.booleans(), st.floats(0, 60), st.floats(0, 20)), min_size=1)
"""Whether it is needed, the drain, and how much later."""


@pytest.mark.parametrize(
    ("members", "found"),
    [
        ([], False),
        ([Member(1, False, False)], True),
        ([Member(1, False, False), Member(1, False, True)], False),
        ([Member(1, False, False), Member(0, False, True)], True),
        ([Member(1, False, False), Member(1, True, True)], True),
        ([Member(0, False, False)], False),
        ([Member(1, True, False)], False),
    ],
)
def test_a_pool_is_bare_where_nobody_who_shall_serve_is_well(
    members: list[Member], found: bool
) -> None:
    assert bare(members) is found


def test_who_is_not_needed_has_the_drain_from_when_he_leaves() -> None:
    leave = go_on(None, False, DRAIN, NOW)
    assert leave.until == NOW + DRAIN
    assert not leave.over(NOW + DRAIN - 1)
    assert leave.over(NOW + DRAIN)


def test_who_is_held_has_the_drain_from_when_he_is_stopped() -> None:
    held = go_on(None, True, DRAIN, NOW)
    assert held == Leave(NOW + DRAIN)
    assert go_on(held, True, DRAIN, NOW + 20) == held
    assert go_on(held, False, DRAIN, NOW + 20).until == NOW + 20 + DRAIN
    assert go_on(held, True, DRAIN, NOW + DRAIN).until == NOW + DRAIN + DRAIN


def test_without_a_drain_nobody_is_held() -> None:
    assert go_on(None, True, 0.0, NOW).over(NOW)


def test_what_people_are_told() -> None:
    held = Leave(NOW + 9)
    assert held.told(NOW, "it is gone") == "nobody else is well: it serves on, for 9 s more"
    assert Leave(NOW, NOW + 7).told(NOW, "it is gone") == "it is gone in 7 s"
    assert (held.due(NOW), held.due(NOW + 9)) == (NOW + 9, None)
    assert (Leave(NOW, NOW + 7).due(NOW), Leave(NOW, NOW).due(NOW)) == (NOW + 7, None)


@given(steps)
def test_who_leaves_is_stopped_for_good_and_gone_within_two_drains(
    steps: list[tuple[bool, float, float]],
) -> None:
    now, leave, leaves = NOW, None, []
    for needed, drain, later in steps:
        leave = go_on(leave, needed, drain, now)
        assert leave.until is not None or (needed and now < leave.hold)
        assert (leave.until or leave.hold) <= now + drain
        leaves.append(leave)
        now += later
    for before, after in itertools.pairwise(leaves):
        assert after.hold <= before.hold
        if before.until is not None:
            assert after.until is not None
            assert after.until <= before.until


@pytest.mark.parametrize("needed", [True, False])
@pytest.mark.parametrize("leave", [None, Leave(NOW + 9), Leave(NOW + 9, NOW + 9)])
def test_who_is_distrusted_has_no_time(leave: Leave | None, needed: bool) -> None:
    assert go_on(leave, needed, DRAIN, NOW, distrusted=True).over(NOW)
