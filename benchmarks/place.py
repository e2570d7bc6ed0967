# SPDX-License-Identifier: Apache-2.0
"""VMs without core or broker, and helper processes in them."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from benchmarks.child import Child
from benchmarks.run import Run
from cnsmo.lab.lab import Lab
from cnsmo.lab.place import base
from cnsmo.lab.topology import Topology
from cnsmo.lab.vm import Vm


class Place:
    """Up while its context lasts."""

    def __init__(self, run: Run, plan: Topology) -> None:
        self._run = run
        self._plan = plan
        self.directory = run.directory()
        self.lab = Lab(base() / run.lab_name)

    def __enter__(self) -> Self:
        self._run.tell("raising VMs")
        self.lab.up(self._plan)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.lab.down()

    def child(self, module: str, vm: Vm) -> Child:
        """``python -m benchmarks.MODULE DIRECTORY`` in a VM; the directory is its own."""
        directory = self.directory / vm.name
        directory.mkdir()
        return Child(module, str(directory), log=directory / f"{module}.log", enter=vm.enter)
