# SPDX-License-Identifier: Apache-2.0
"""What a VPN driver says about itself, so that a document it cannot realise is refused at plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from cnsmo.services.base import Driver
from cnsmo.services.vpn.desired import VpnDesired
from cnsmo.services.vpn.spec import Topology


class VpnDriver(Driver[VpnDesired]):
    """Base of the drivers of the entry point group ``cnsmo.vpn.drivers``."""

    topologies: ClassVar[tuple[Topology, ...]] = (Topology.MESH, Topology.HUB)
    """What it can realise."""
    announces: ClassVar[tuple[str, ...]] = ()
    """Which keys of an announcement it always has: what others know a member by."""

    @classmethod
    def listens(cls, listen_port: int, options: Mapping[str, Any]) -> tuple[str, int] | None:
        """Protocol and port that every carrier of the VPN listens on; None: on none."""
        return "udp", listen_port
