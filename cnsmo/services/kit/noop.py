# SPDX-License-Identifier: Apache-2.0
"""A driver that keeps its desired state in a file and touches nothing else.

With it the whole control plane runs anywhere: tests, fleets of simulated agents, first trials.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, TypeVar

from cnsmo.services.base import Desired, Driver, Observation
from cnsmo.services.kit.private_files import read_private, remove_tree, write_private

D = TypeVar("D", bound=Desired)


class Noop(Driver[D]):
    """Believes what it is told, and remembers it; what a service's noop driver is made from."""

    name = "noop"

    def check(self) -> None:
        """Nothing is needed."""

    def apply(self, desired: D) -> list[str]:
        text = _text(desired)
        if read_private(self._file) == text:
            return []
        write_private(self._file, text)
        return ["remembered"]

    def observe(self, desired: D) -> Observation:
        same = read_private(self._file) == _text(desired)
        drift = () if same else ("not what was remembered",)
        return Observation(drift=drift, detail=self.detail(desired))

    def detail(self, desired: D) -> dict[str, Any]:
        """What is told as observed."""
        return {}

    def remove(self) -> None:
        remove_tree(self.state_dir)

    @property
    def _file(self) -> Path:
        return self.state_dir / "desired.json"


def _text(desired: Desired) -> str:
    return json.dumps(dataclasses.asdict(desired), sort_keys=True)
