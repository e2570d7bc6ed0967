# SPDX-License-Identifier: Apache-2.0
"""What people ask for: servers and frontends with their figures."""

from __future__ import annotations

import collections
import math
from collections.abc import Collection, Mapping
from typing import Any

from cnsmo.services.loadbalancer.drivers import nfl_report
from cnsmo.services.loadbalancer.drivers.nfl_change import Loaded
from cnsmo.services.loadbalancer.drivers.nfl_flows import Flow
from cnsmo.services.loadbalancer.drivers.nfl_health import Verdict
from cnsmo.services.loadbalancer.drivers.nfl_render import place
from cnsmo.services.loadbalancer.drivers.nfl_wanted import Target, Wanted

NOTHING = nfl_report.Listed({}, {}, ())


class Figures:
    """Remembers what it counted the last time, for rates: new flows per second since then, as
    haproxy a whole number: rounded up, so that few are not none."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, int]] = {}

    def detail(
        self,
        pool: str,
        wanted: Wanted,
        verdicts: Mapping[str, Verdict],
        listed: nfl_report.Listed | None,
        loaded: Loaded,
        alive: Collection[Flow],
        now: float,
    ) -> dict[str, Any]:
        """See LoadBalancerDriver; ``errors`` is None: what passes in the kernel is not looked at.

        alive: flows that are there now; now: seconds since the host was started.
        """
        listed = listed or NOTHING
        sessions = collections.Counter(flow.server for flow in alive)
        totals, arrivals = nfl_report.totals(wanted, listed), nfl_report.arrivals(wanted, listed)
        names = collections.Counter(it.name for it in wanted.targets)
        servers = {}
        for target in wanted.targets:
            state, why = nfl_report.standing(wanted, target, verdicts, loaded, now)
            servers[_called(target, names)] = {
                "state": state, "why": why, "weight": target.weight, "backup": target.backup,
                "address": place((target.address, target.port)),
                "sessions": sessions[target.key], "total": totals[target.key],
                "rate": self._rate(target.key, totals[target.key], now), "errors": None,
            }  # fmt: skip
        frontends = {
            place(bind): {
                "sessions": sum(
                    flow.port == bind[1] and bind[0] in ("", flow.address) for flow in alive
                ),
                "total": total,
                "rate": self._rate(place(bind), total, now),
            }
            for bind, total in arrivals.items()
        }
        return {"servers": {pool: servers}, "frontends": frontends, "vip": False}

    def _rate(self, what: str, total: int, now: float) -> int:
        before, then = self._last.get(what, (now, total))
        self._last[what] = (now, total)
        seconds, count = now - before, total - then
        return math.ceil(count / seconds) if seconds > 0 and count > 0 else 0


def _called(target: Target, names: Mapping[str, int]) -> str:
    """A host may be there under several addresses."""
    if names[target.name] == 1:
        return target.name
    return f"{target.name} {place((target.address, target.port))}"
