# SPDX-License-Identifier: Apache-2.0
"""Which ports of which hosts were open, and when: asked all the time, by the operator's side."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

from benchmarks.inside import Inside
from cnsmo.agent.system import LocalSystem
from cnsmo.lab.vm import Vm
from tests.acceptance import knocker

PROGRAM = (sys.executable, "-I", "-S", knocker.__file__)
SECONDS = 20.0
Door = tuple[str, int]
"""Address and TCP port."""


@dataclasses.dataclass(frozen=True)
class Gap:
    """While a door did not answer. Times of the monotonic clock; inf: it has not ended."""

    begun: float
    ended: float

    @property
    def seconds(self) -> float:
        """How long."""
        return self.ended - self.begun


class Doors:
    """Knocks for as long as its context lasts."""

    def __init__(self, where: LocalSystem, doors: Iterable[Door], log: Path) -> None:
        """where: the namespace from which it knocks."""
        self._where = where
        self._names = {door: f"{door[0]}:{door[1]}" for door in doors}
        self._log = log
        self._heard = threading.Condition()
        self._changes: dict[str, list[tuple[float, str]]] = {it: [] for it in self._names.values()}
        self._until = 0.0

    def __enter__(self) -> Self:
        self._stack = contextlib.ExitStack()
        process = self._stack.enter_context(
            Inside(
                self._where, *PROGRAM, "watch", *self._names.values(),
                log=self._log, stdout=subprocess.PIPE, stdin=subprocess.PIPE,
            )
        )  # fmt: skip
        lines = process.pipes[1]
        thread = threading.Thread(target=self._listen, args=(lines,), daemon=True)
        thread.start()
        self._stack.callback(thread.join)
        self._stack.push(lambda *_exc: process.stop())
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()

    def answers(self, door: Door, since: float, until: float) -> set[str]:
        """All that came of knocking in that time."""
        self.wait_until(until)
        with self._heard:
            changes = list(self._changes[self._names[door]])
        before = [answer for at, answer in changes if at <= since][-1:]
        return {*before, *(answer for at, answer in changes if since < at <= until)}

    def gap(self, door: Door, since: float) -> Gap | None:
        """The first time after ``since`` for which it was shut; None: it was always open."""
        with self._heard:
            changes = [change for change in self._changes[self._names[door]] if change[0] > since]
        shut = next((at for at, answer in changes if answer != "open"), None)
        if shut is None:
            return None
        again = (at for at, answer in changes if at > shut and answer == "open")
        return Gap(shut, next(again, float("inf")))

    def wait_until(self, at: float) -> None:
        """Wait until everything is known that was asked before."""
        with self._heard:
            assert self._heard.wait_for(lambda: self._until >= at, SECONDS), self._log.read_text()

    def _listen(self, lines: Iterator[str]) -> None:
        for line in lines:
            told = json.loads(line)
            with self._heard:
                if "until" in told:
                    self._until = told["until"]
                else:
                    self._changes[told["door"]].append((told["at"], told["answer"]))
                self._heard.notify_all()


@contextlib.contextmanager
def listening(vm: Vm, ports: Iterable[int], log: Path) -> Iterator[None]:
    """Somebody listens at these ports of a VM; ready when the context begins."""
    with Inside(vm, *PROGRAM, "serve", *map(str, ports), log=log, stdout=subprocess.PIPE,
                stdin=subprocess.PIPE) as process:  # fmt: skip
        assert process.pipes[1].readline().strip() == "ready", log.read_text()
        yield
