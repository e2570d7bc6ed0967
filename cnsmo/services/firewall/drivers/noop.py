# SPDX-License-Identifier: Apache-2.0
"""A driver that keeps its desired state in a file and touches nothing else.

With it the whole control plane runs anywhere: tests, fleets of simulated agents, first trials.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from cnsmo.services.base import Observation
from cnsmo.services.firewall.desired import FirewallDesired
from cnsmo.services.firewall.driver import FirewallDriver
from cnsmo.services.kit.private_files import read_private, remove_tree, write_private


class NoopDriver(FirewallDriver):
    """Believes what it is told, and remembers it."""

    name = "noop"

    def check(self) -> None:
        """Nothing is needed."""

    def apply(self, desired: FirewallDesired) -> list[str]:
        text = _text(desired)
        if read_private(self._file) == text:
            return []
        write_private(self._file, text)
        return ["remembered"]

    def observe(self, desired: FirewallDesired) -> Observation:
        same = read_private(self._file) == _text(desired)
        sets = {name: {"count": len(items)} for name, items in desired.sets.items()}
        return Observation(
            drift=() if same else ("not what was remembered",),
            detail={"rules": [], "sets": sets},
        )

    def remove(self) -> None:
        remove_tree(self.state_dir)

    @property
    def _file(self) -> Path:
        return self.state_dir / "desired.json"


def _text(desired: FirewallDesired) -> str:
    return json.dumps(dataclasses.asdict(desired), sort_keys=True)
