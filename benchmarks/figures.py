# SPDX-License-Identifier: Apache-2.0
"""Figures: a value with its spread, its target and the samples it comes from; pure."""

from __future__ import annotations

import dataclasses
import math
import random
import statistics
from collections.abc import Callable, Sequence

RESAMPLES = 2000
LEVEL = 0.95


@dataclasses.dataclass(frozen=True)
class Target:
    """What a figure shall be."""

    bound: float
    at_least: bool = False

    def met(self, value: float) -> bool:
        """Whether a value is on the right side of the bound."""
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.bound:g}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """One line of the table. ``low`` to ``high`` is the spread: the middle half of the samples."""

    name: str
    unit: str
    value: float
    statistic: str
    low: float
    high: float
    samples: tuple[float, ...]
    target: Target | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        return self.target.met(self.value) if self.target else None


def median_of(
    name: str, unit: str, samples: Sequence[float], target: Target | None = None, note: str = ""
) -> Figure:
    """A figure whose value is the median."""
    return _figure(name, unit, samples, "median", statistics.median, target, note)


def p95_of(
    name: str, unit: str, samples: Sequence[float], target: Target | None = None, note: str = ""
) -> Figure:
    """A figure whose value is the 95th percentile."""
    return _figure(name, unit, samples, "p95", percentile95, target, note)


def p99_of(
    name: str, unit: str, samples: Sequence[float], target: Target | None = None, note: str = ""
) -> Figure:
    """A figure whose value is the 99th percentile."""
    return _figure(name, unit, samples, "p99", percentile99, target, note)


def ratio_of(
    name: str, ours: Sequence[float], theirs: Sequence[float], target: Target | None = None
) -> Figure:
    """The median of what each of our samples is to its neighbour in time among theirs.

    Neighbours saw the same load of the machine, which so drops out of the ratio.
    """
    pairs = [one / other for one, other in zip(ours, theirs, strict=True)]
    low, high = interval(pairs)
    note = f"{LEVEL:.0%} sure: {low:.3f} to {high:.3f}" if len(pairs) > 1 else ""
    return median_of(name, "x", pairs, target, note)


def exponent_of(
    name: str, sizes: Sequence[float], values: Sequence[float], target: Target | None = None
) -> Figure:
    """How a value grows: k of value = c * size^k. 0: not at all; 1: as the size."""
    value = exponent(sizes, values)
    shown = ", ".join(f"{size:g}: {found:.3g}" for size, found in zip(sizes, values, strict=True))
    return Figure(
        name=name, unit="= k", value=value, statistic="fit", low=value, high=value,
        samples=tuple(values), target=target, note=shown,
    )  # fmt: skip


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Slope of the straight line through the logarithms (least squares)."""
    return statistics.linear_regression(
        [math.log(size) for size in sizes], [math.log(value) for value in values]
    ).slope


def percentile95(samples: Sequence[float]) -> float:
    """The smallest sample that at least 95 % of the samples do not exceed (nearest rank)."""
    return _ranked(samples, 95)


def percentile99(samples: Sequence[float]) -> float:
    """The same, of 99 %."""
    return _ranked(samples, 99)


def _ranked(samples: Sequence[float], percent: int) -> float:
    return sorted(samples)[math.ceil(percent * len(samples) / 100) - 1]


def quartiles(samples: Sequence[float]) -> tuple[float, float]:
    """The bounds of the middle half."""
    if len(samples) < 2:
        return samples[0], samples[0]
    first, _middle, third = statistics.quantiles(samples, n=4, method="inclusive")
    return first, third


def interval(samples: Sequence[float]) -> tuple[float, float]:
    """Between what bounds the true median is, with a certainty of 95 % (percentile bootstrap).

    Source: Efron, Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    dice = random.Random(0)
    medians = sorted(
        statistics.median(dice.choices(samples, k=len(samples))) for _ in range(RESAMPLES)
    )
    tail = round(RESAMPLES * (1 - LEVEL) / 2)
    return medians[tail], medians[-tail - 1]


def _figure(
    name: str,
    unit: str,
    samples: Sequence[float],
    statistic: str,
    of: Callable[[Sequence[float]], float],
    target: Target | None,
    note: str,
) -> Figure:
    low, high = quartiles(samples)
    return Figure(
        name=name, unit=unit, value=of(samples), statistic=f"{statistic} of {len(samples)}",
        low=low, high=high, samples=tuple(samples), target=target, note=note,
    )  # fmt: skip
