# SPDX-License-Identifier: Apache-2.0
"""From outside: one pinger in each VM, and when the last of them was satisfied."""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Self

from benchmarks import pinger
from benchmarks.inside import Inside
from cnsmo.lab.vm import Vm


class Pings:
    """Pingers in these VMs, up and waiting for orders."""

    def __init__(self, vms: Iterable[Vm], log: Path) -> None:
        self._stack = contextlib.ExitStack()
        self._pipes: dict[str, tuple[IO[str], IO[str]]] = {}
        try:
            for vm in vms:
                program = Inside(
                    vm, sys.executable, "-I", "-S", pinger.__file__,
                    log=log, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                )  # fmt: skip
                self._pipes[vm.name] = self._stack.enter_context(program).pipes
            for _stdin, stdout in self._pipes.values():
                stdout.readline()
        except BaseException:
            self._stack.close()
            raise

    def begin(self, addresses: Mapping[str, Iterable[str]], period: float) -> None:
        """By VM, what it shall ping, every so many seconds, until all has answered."""
        for name, wanted in addresses.items():
            order = {"addresses": sorted(wanted), "period": period}
            self._pipes[name][0].write(json.dumps(order) + "\n")
        self._waiting = set(addresses)

    def wait(self, timeout: float) -> float:
        """The monotonic time at which the last VM had all its answers.

        :raises TimeoutError: naming the VMs that had not, after timeout seconds.
        """
        until, last = time.monotonic() + timeout, 0.0
        while self._waiting:
            sources = {self._pipes[name][1]: name for name in self._waiting}
            ready, _, _ = select.select(sources, [], [], max(0.0, until - time.monotonic()))
            if not ready:
                waiting = self._waiting
                self.begin(dict.fromkeys(waiting, ()), 1.0)
                raise TimeoutError(f"not all answered {', '.join(sorted(waiting))}")
            for source in ready:
                last = max(last, float(source.readline()))
                self._waiting.discard(sources[source])
        return last

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()
