# SPDX-License-Identifier: Apache-2.0
"""What every benchmark is given: how much to measure, a place, a broker, and somebody to tell."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.scale import Scale
from cnsmo.lab.lab import labs
from tests.beds.postgresql import PostgresqlBed
from tests.beds.rabbitmq import RabbitmqBed

LAB = re.compile(r"bench([0-9]+)")
"""Name of our labs: with our process id, so that what a killed run left behind is known."""


class Run:
    """One run of benchmarks; all that it made is gone when its context ends."""

    def __init__(self, scale: Scale, keep: bool = False) -> None:
        """keep: leave the directories, with all logs and databases, for whoever wants to look."""
        self.scale = scale
        self._keep = keep
        self.lab_name = f"bench{os.getpid()}"
        self._stack = contextlib.ExitStack()
        self._broker: RabbitmqBed | None = None
        self._postgresql: PostgresqlBed | None = None
        self._bar = Progress(
            TextColumn("[bold]{task.fields[benchmark]:24}"),
            BarColumn(20),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
        )

    @property
    def broker(self) -> RabbitmqBed:
        """A RabbitMQ, started when first asked for."""
        if self._broker is None:
            self.tell("starting RabbitMQ")
            self._broker = self._stack.enter_context(RabbitmqBed())
        return self._broker

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """URL of a PostgreSQL database, which is there while the context lasts."""
        if self._postgresql is None:
            self.tell("starting PostgreSQL")
            self._postgresql = self._stack.enter_context(PostgresqlBed())
        name = self._postgresql.create_database()
        try:
            yield self._postgresql.url(name)
        finally:
            self._postgresql.drop_database(name)

    @contextlib.contextmanager
    def benchmark(self, name: str) -> Iterator[None]:
        """Progress of one benchmark is shown while the context lasts; in a log, its name only."""
        if not self._bar.console.is_terminal:
            print(f"measuring: {name}", flush=True)
        self._task = self._bar.add_task("", benchmark=name, total=None)
        yield
        self._bar.update(self._task, description="done", total=1, completed=1)

    def expect(self, steps: int) -> None:
        """So many steps will be told."""
        self._bar.update(self._task, total=steps, completed=0)

    def tell(self, text: str) -> None:
        """What is going on, as part of a step."""
        self._bar.update(self._task, description=text)

    def step(self, text: str) -> None:
        """What begins now, and so that the step before is done."""
        self._bar.update(self._task, description=text, advance=1)

    def directory(self) -> Path:
        """A new directory that lasts as long as the run; the same path in VMs."""
        made = Path(tempfile.mkdtemp(prefix="cnsmo-bench-", dir="/tmp"))
        if not self._keep:
            self._stack.callback(shutil.rmtree, made, ignore_errors=True)
        return made

    def __enter__(self) -> Self:
        for lab in labs():
            owner = LAB.fullmatch(lab.name)
            if owner and not Path(f"/proc/{owner[1]}").exists():
                lab.down()
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
        self._stack.close()
