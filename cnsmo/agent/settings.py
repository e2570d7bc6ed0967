# SPDX-License-Identifier: Apache-2.0
"""What one agent process needs to know."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from cnsmo.agent.identity import StateDir
from cnsmo.model.host import HostFacts
from cnsmo.services.base import System


@dataclasses.dataclass(frozen=True)
class Settings:
    """Times in seconds. ``join_url``, ``ca_fingerprint``: where to join, and whom to believe there.

    ``facts`` and ``token`` are asked when needed: both may change."""

    state_dir: StateDir
    host: str
    services: tuple[str, ...]
    system: System
    facts: Callable[[], HostFacts]
    token: Callable[[], str]
    heartbeat: float = 10.0
    resync: float = 60.0
    rpc_timeout: float = 15.0
    retry_max: float = 30.0
    join_url: str = ""
    ca_fingerprint: str = ""
    metrics: tuple[str, int] | None = None
    """Address and TCP port at which figures are served; None: they are not."""
