# SPDX-License-Identifier: Apache-2.0
"""What a configuration needs to know of the host that it is for."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Material:
    """Files of TLS, as they are called in the configuration; ``authority``: "" where there is
    none."""

    certificates: str
    authority: str = ""


@dataclasses.dataclass(frozen=True)
class Host:
    """``label``: whose load balancer it is. ``user``, ``group``: as whom HAProxy runs; "": as who
    starts it. ``ipv6``: whether the kernel has it. ``secret``: from which cookies are made."""

    label: str
    user: str = ""
    group: str = ""
    ipv6: bool = True
    secret: str = ""
    material: Material | None = None
    processors: tuple[int, ...] = ()
    """Those that it may use, by number; each thread stays on one. Empty: as the kernel likes."""
