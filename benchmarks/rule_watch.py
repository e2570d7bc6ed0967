# SPDX-License-Identifier: Apache-2.0
"""From outside: when a rule came in force in the kernels of VMs."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from benchmarks import rule_watcher
from cnsmo.lab.network import NETNS
from cnsmo.lab.vm import Vm

END_SECONDS = 5.0


class RuleWatch:
    """Listens in these VMs while its context lasts."""

    def __init__(self, vms: Sequence[Vm], log: Path) -> None:
        self._names = [vm.name for vm in vms]
        places = [str(NETNS / vm.namespace) for vm in vms]
        with open(log, "ab") as sink:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", rule_watcher.__file__, *places],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=sink,
                start_new_session=True, text=True, bufsize=1,
            )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._orders, self._answers = self._process.stdin, self._process.stdout
        if self._answers.readline().strip() != "up":
            self.close()
            raise RuntimeError(f"the rule watcher ended; see {log}")

    def begin(self, comment: str) -> None:
        """Listen for a rule with this comment from now on."""
        self._orders.write(f"{comment}\n")
        self._answers.readline()

    def wait(self, timeout: float) -> list[float]:
        """The monotonic times at which the rule was in force, VM by VM.

        :raises TimeoutError: naming the VMs where it was not, after timeout seconds.
        """
        late = not select.select([self._answers], [], [], timeout)[0]
        if late:
            self._orders.write("\n")
        times = json.loads(self._answers.readline())
        missing = [name for name, at in zip(self._names, times, strict=True) if at is None]
        if missing:
            raise TimeoutError(f"after {timeout:g} s not in force on {', '.join(missing)}")
        return [float(at) for at in times]

    def close(self) -> None:
        """End it."""
        self._orders.close()
        self._answers.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
