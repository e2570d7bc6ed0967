# SPDX-License-Identifier: Apache-2.0
"""What drivers tell of a load balancer on one of its carriers."""

from __future__ import annotations

from cnsmo.services.seen import Count, Seen


class Flows(Seen):
    """What a server or a frontend has to do; rate: a second."""

    state: str = ""
    why: str = ""
    weight: Count | None = None
    sessions: Count | None = None
    total: Count | None = None
    rate: Count | None = None
    errors: Count | None = None


class LoadBalancerSeen(Seen):
    """servers by pool and name, frontends by where they listen; vip: whether it is here."""

    servers: dict[str, dict[str, Flows]] = {}
    frontends: dict[str, Flows] = {}
    vip: bool = False
