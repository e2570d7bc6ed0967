# SPDX-License-Identifier: Apache-2.0
"""Figures as a table for people and as JSON for programs; pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from benchmarks.figures import Figure

MARKS = {True: "[green]✔ met[/]", False: "[red]✘ missed[/]", None: ""}


def table(figures: Mapping[str, Sequence[Figure]]) -> Table:
    """One line per figure, in groups by benchmark."""
    made = Table(box=SIMPLE_HEAD, highlight=False)
    made.add_column("figure", no_wrap=True)
    made.add_column("value", justify="right", no_wrap=True)
    made.add_column("middle half", justify="right")
    made.add_column("statistic")
    made.add_column("target", justify="right")
    made.add_column("", no_wrap=True)
    made.add_column("remarks", style="dim")
    for name, group in figures.items():
        made.add_section()
        made.add_row(f"[bold]{name}[/]")
        for figure in group:
            made.add_row(
                f"  {figure.name}",
                f"[bold]{shown(figure.value)}[/] {figure.unit}",
                "" if figure.low == figure.high
                else f"{shown(figure.low)} to {shown(figure.high)}",
                figure.statistic,
                str(figure.target or ""),
                MARKS[figure.met],
                figure.note,
            )  # fmt: skip
    return made


def shown(value: float) -> str:
    """Three significant digits; whole numbers from 100 on."""
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.2f}" if abs(value) >= 1 or abs(value) < 0.001 else f"{value:.3f}"


def document(figures: Mapping[str, Sequence[Figure]], machine: dict[str, Any]) -> dict[str, Any]:
    """All of it, with every sample, ready for json.dump."""
    return {
        "machine": machine,
        "benchmarks": {
            name: [dataclasses.asdict(figure) | {"met": figure.met} for figure in group]
            for name, group in figures.items()
        },
    }
