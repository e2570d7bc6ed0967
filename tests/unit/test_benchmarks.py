# SPDX-License-Identifier: Apache-2.0
"""The arithmetic and the table of the benchmarks; what they measure is measured by running them."""

import io
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from benchmarks import catalogue, figures, pinger, table
from benchmarks.figures import Target, exponent_of, median_of, p95_of, ratio_of

SAMPLES = st.lists(st.floats(0.001, 1000.0), min_size=1, max_size=30)


def printed(groups: dict) -> str:
    text = io.StringIO()
    Console(width=170, file=text).print(table.table(groups))
    return text.getvalue()


def test_a_ratio_is_that_of_neighbours_not_of_medians() -> None:
    ratio = ratio_of("ours / theirs", [10, 20, 3000], [20, 40, 3000])
    assert ratio.value == 0.5
    assert ratio.samples == (0.5, 0.5, 1.0)


def test_as_many_of_ours_as_of_theirs() -> None:
    with pytest.raises(ValueError):
        ratio_of("ours / theirs", [1, 2], [1])


@pytest.mark.parametrize(("power", "factor"), [(0.0, 7.0), (1.0, 0.2), (1.7, 3.0)])
def test_the_exponent_of_a_power_law_is_found(power: float, factor: float) -> None:
    sizes = [10, 50, 100]
    found = exponent_of("growth", sizes, [factor * size**power for size in sizes])
    assert found.value == pytest.approx(power, abs=1e-9)


@pytest.mark.parametrize(("count", "rank"), [(1, 1), (10, 10), (19, 19), (20, 19), (100, 95)])
def test_the_95th_percentile_is_the_nearest_rank(count: int, rank: int) -> None:
    assert p95_of("time", "s", [float(value) for value in range(count, 0, -1)]).value == rank


@given(SAMPLES)
def test_the_median_is_within_its_spread_and_its_interval(samples: list[float]) -> None:
    found = median_of("time", "s", samples)
    assert found.low <= found.value <= found.high
    low, high = figures.interval(samples)
    assert min(samples) <= low <= high <= max(samples)
    assert low <= found.value * (1 + 1e-9)
    assert high >= found.value * (1 - 1e-9)


def test_a_target_includes_its_bound() -> None:
    assert Target(2.0).met(2.0)
    assert not Target(2.0).met(2.001)
    assert Target(0.97, at_least=True).met(0.97)
    assert not Target(0.97, at_least=True).met(0.969)


def test_the_table_says_which_targets_were_met() -> None:
    shown = printed(
        {
            "mesh": [median_of("until all answer", "s", [3.0, 4.0, 5.0], Target(5.0))],
            "agent": [median_of("start", "s", [1.8], Target(1.5)), median_of("PSS", "MB", [41.3])],
        }
    )
    lines = {line.split()[0]: line for line in shown.splitlines() if line.strip()}
    assert "4.00 s" in lines["until"]
    assert "3.50 to 4.50" in lines["until"]
    assert "✔ met" in lines["until"]
    assert "✘ missed" in lines["start"]
    assert "met" not in lines["PSS"]


def test_what_programs_get_has_every_sample() -> None:
    made = table.document({"mesh": [median_of("x", "s", [1.0, 3.0], Target(5.0))]}, {"load": 0.1})
    (figure,) = json.loads(json.dumps(made))["benchmarks"]["mesh"]
    assert figure["samples"] == [1.0, 3.0]
    assert figure["value"] == 2.0
    assert figure["met"] is True


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.0523, "0.052"), (1.5, "1.50"), (99.4, "99.40"), (1523.4, "1523")],
)
def test_values_have_as_many_digits_as_they_deserve(value: float, text: str) -> None:
    assert table.shown(value) == text


def test_every_benchmark_says_what_it_measures() -> None:
    for measure in catalogue.BENCHMARKS.values():
        module = __import__(measure.__module__, fromlist=["measure"])
        assert len(module.__doc__.splitlines()) > 3


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_echo_requests_have_a_valid_checksum(ident: int, search: int) -> None:
    total = sum(struct.unpack("!4H", pinger.request(ident, search)))
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF
