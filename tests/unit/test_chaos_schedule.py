# SPDX-License-Identifier: Apache-2.0
"""The schedule of tests/chaos: told by its seed alone, fair to all kinds, over when it is over."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from tests.chaos import cast
from tests.chaos.schedule import RECOVERY, STOPPED, STOPS, Kind, schedule, targets

TEN_MINUTES = 600.0
seeds = st.integers(0, 10**6)
counts = st.integers(cast.FEWEST, len(cast.VMS))


@given(seeds, counts)
def test_the_same_seed_makes_the_same_schedule(seed: int, count: int) -> None:
    stage = cast.stage(count)
    assert schedule(seed, TEN_MINUTES, stage) == schedule(seed, TEN_MINUTES, stage)


def test_another_seed_makes_another_schedule() -> None:
    stage = cast.stage(12)
    assert len({schedule(seed, TEN_MINUTES, stage) for seed in range(50)}) == 50


@given(seeds)
def test_every_kind_of_fault_occurs_in_ten_minutes(seed: int) -> None:
    assert {it.kind for it in schedule(seed, TEN_MINUTES, cast.stage(12))} == set(Kind)


@given(seeds, counts, st.floats(30, 3600))
def test_no_fault_outlives_its_end_or_befalls_who_has_not_recovered(
    seed: int, count: int, seconds: float
) -> None:
    stage = cast.stage(count)
    faults = schedule(seed, seconds, stage)
    assert all(0 < it.begin <= it.end <= seconds for it in faults)
    assert all(it.target in targets(it.kind, stage) for it in faults)
    assert all(abs(it.end - it.begin - STOPPED) < 0.01 for it in faults if it.kind in STOPS)
    assert list(faults) == sorted(faults, key=lambda it: it.begin)
    for target in {it.target for it in faults}:
        own = [it for it in faults if it.target == target]
        for one, other in itertools.pairwise(own):
            assert other.begin >= one.end + RECOVERY - 0.2
