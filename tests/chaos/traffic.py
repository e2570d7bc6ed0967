# SPDX-License-Identifier: Apache-2.0
"""The probers in the VMs: started, started again after a reboot, listened to."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.inside import Inside
from cnsmo.lab.vm import Vm
from tests.chaos import prober
from tests.chaos.cast import ECHO, SHUT, WEB
from tests.chaos.history import Answer, Arrival, Flow

PROGRAM = (sys.executable, "-I", "-S", prober.__file__)
SECONDS = 10.0


class Traffic:
    """What goes between the VMs, from the first `start` of each until `close`."""

    def __init__(self, begin: float, logs: Path) -> None:
        """begin: the run's, by the monotonic clock."""
        self.answers: list[Answer] = []
        self.arrivals: list[Arrival] = []
        self._begin = begin
        self._logs = logs
        self._flows: Sequence[Flow] = ()
        self._running: dict[str, tuple[Inside, threading.Thread]] = {}

    def plan(self, flows: Sequence[Flow]) -> None:
        """What probers that are started from now on send."""
        self._flows = flows

    def start(self, vm: Vm) -> None:
        """Let a VM serve and send; once more, if its former prober went down with it."""
        self.stop(vm.name)
        flows = [it for it in self._flows if it.source == vm.name]
        targets = [f"{it.kind}:{it.address}:{it.port}" for it in flows]
        words = (vm.name, str(ECHO), str(WEB), str(SHUT), *targets)
        log = self._logs / f"{vm.name}-prober.log"
        pipe = subprocess.PIPE
        process = Inside(vm, *PROGRAM, *words, log=log, stdin=pipe, stdout=pipe)
        lines = process.pipes[1]
        thread = threading.Thread(target=self._hear, args=(vm.name, flows, lines), daemon=True)
        thread.start()
        self._running[vm.name] = process, thread

    def stop(self, name: str) -> None:
        """End a VM's prober; fine when there is none."""
        process, thread = self._running.pop(name, (None, None))
        if process and thread:
            process.stop()
            thread.join(SECONDS)

    def close(self) -> None:
        """End all."""
        for name in list(self._running):
            self.stop(name)

    def _hear(self, vm: str, flows: Sequence[Flow], lines: Iterator[str]) -> None:
        for line in lines:
            try:
                told = json.loads(line)
            except ValueError:
                return  # the last one, of a VM that was switched off
            at = told["at"] - self._begin
            if "flow" in told:
                self.answers.append(Answer(flows[told["flow"]], at, told["ok"]))
            else:
                self.arrivals.append(Arrival(vm, told["arrived"], told["sender"], at))
