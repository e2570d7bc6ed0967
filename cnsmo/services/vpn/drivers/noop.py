# SPDX-License-Identifier: Apache-2.0
"""A driver that keeps the VPN it was told in a file; see kit.noop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cnsmo.services.base import Unit
from cnsmo.services.kit.noop import Noop
from cnsmo.services.vpn.desired import VpnDesired
from cnsmo.services.vpn.driver import VpnDriver


class NoopDriver(Noop[VpnDesired], VpnDriver):
    """A VPN without an interface."""

    @classmethod
    def listens(cls, listen_port: int, options: Mapping[str, Any]) -> tuple[str, int] | None:
        return None

    def announce(self, unit: Unit) -> dict[str, Any]:
        return {"driver": self.name}

    def detail(self, desired: VpnDesired) -> dict[str, Any]:
        return {
            "peers": {peer.host: {} for peer in desired.peers},
            "relayed": dict(desired.relayed),
        }
