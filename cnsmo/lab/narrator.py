# SPDX-License-Identifier: Apache-2.0
"""Tells a person what happens: one line per step, with its time; progress while it happens."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape


class Narrator:
    """Prints to a console; counts what went wrong."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.failures: list[str] = []
        self._begin = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._begin

    def title(self, text: str) -> None:
        """A heading."""
        self.console.print(f"\n[bold]{escape(text)}[/bold]")

    def say(self, text: str) -> None:
        """A line of explanation."""
        self.console.print(f"  [dim]{escape(text)}[/dim]", soft_wrap=True)

    @contextlib.contextmanager
    def step(self, doing: str) -> Iterator[Step]:
        """A step: a spinner on a terminal while it lasts, then one line with its time.

        The body may set ``result``, and calls ``fail`` when what was promised did not happen.
        """
        step = Step(doing)
        begin = time.monotonic()
        with self.console.status(f"{escape(doing)} ..."):
            yield step
        mark = "[green]✔[/green]" if step.failure is None else "[red]✘[/red]"
        text = step.result if step.failure is None else f"{step.doing}: {step.failure}"
        if step.failure is not None:
            self.failures.append(text)
        seconds = time.monotonic() - begin
        self.console.print(
            f"  {mark} {escape(text)}  [dim]{seconds:.1f} s[/dim]", highlight=False, soft_wrap=True
        )


class Step:
    """What came of a step."""

    def __init__(self, doing: str) -> None:
        self.doing = doing
        self.result = doing
        self.failure: str | None = None

    def check(self, kept: bool, otherwise: str) -> None:
        """Note whether a promise was kept."""
        if not kept and self.failure is None:
            self.failure = otherwise
