# SPDX-License-Identifier: Apache-2.0
"""A driver that keeps its desired state in a file and touches nothing else.

With it the whole control plane runs anywhere: tests, fleets of simulated agents, first trials.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnsmo.services.base import Observation, Unit
from cnsmo.services.kit.private_files import read_private, remove_tree, write_private
from cnsmo.services.vpn.desired import VpnDesired
from cnsmo.services.vpn.driver import VpnDriver


class NoopDriver(VpnDriver):
    """Believes what it is told, and remembers it."""

    name = "noop"

    @classmethod
    def listens(cls, listen_port: int, options: Mapping[str, Any]) -> tuple[str, int] | None:
        return None

    def check(self) -> None:
        """Nothing is needed."""

    def announce(self, unit: Unit) -> dict[str, Any]:
        return {"driver": self.name}

    def apply(self, desired: VpnDesired) -> list[str]:
        text = _text(desired)
        if read_private(self._file) == text:
            return []
        write_private(self._file, text)
        return ["remembered"]

    def observe(self, desired: VpnDesired) -> Observation:
        same = read_private(self._file) == _text(desired)
        return Observation(
            drift=() if same else ("not what was remembered",),
            detail={
                "peers": {peer.host: {} for peer in desired.peers},
                "relayed": dict(desired.relayed),
            },
        )

    def remove(self) -> None:
        remove_tree(self.state_dir)

    @property
    def _file(self) -> Path:
        return self.state_dir / "desired.json"


def _text(desired: VpnDesired) -> str:
    return json.dumps(dataclasses.asdict(desired), sort_keys=True)
