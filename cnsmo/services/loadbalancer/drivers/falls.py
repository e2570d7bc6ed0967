# SPDX-License-Identifier: Apache-2.0
"""Servers that fall again and again: until they hold still, they serve only while no other of their
pool is well.

Who is well, the drivers' checks find out, and count how often somebody was not; who falls too often
is made a backup. Nothing of it is on the disk: the next agent process counts anew. Pure, but for
the clock.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping

from cnsmo.services.loadbalancer.desired import LoadBalancerDesired, Pool, Server

FALLS, WITHIN_SECONDS = 3, 300.0
"""So many falls in that time are too many."""
Place = tuple[str, str, int]
"""A server's pool, address and port: as a backup it has another name, and is the same one."""


class Falls:
    """What was counted of one load balancer, and who was found to be unsteady by it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counted: dict[str, int] = {}
        self._falls: dict[Place, list[float]] = {}
        self._unsteady: frozenset[Place] = frozenset()
        self._wanted: LoadBalancerDesired | None = None

    def count(self, counted: Mapping[str, tuple[Place, int]]) -> None:
        """Take how often each server fell. Who begins anew, or was not known, tells nothing by the
        first number. counted: by a name that is the server's as long as its count is."""
        now, here = self._clock(), {place for place, _number in counted.values()}
        for name, (place, number) in counted.items():
            more = max(0, number - self._counted.get(name, number))
            self._falls.setdefault(place, []).extend([now] * min(more, FALLS))
        self._counted = {name: number for name, (_place, number) in counted.items()}
        self._falls = {place: falls for place, falls in self._falls.items() if place in here}

    def excuse(self, names: Iterable[str]) -> None:
        """Take what these count until the next look for our own doing: to HAProxy a server falls,
        too, when it is drained, and when it has to pass a check before it serves again."""
        for name in names:
            self._counted.pop(name, None)

    @property
    def due(self) -> bool:
        """Whether somebody else is unsteady than was decided."""
        return self._found() != self._unsteady

    def decide(self, desired: LoadBalancerDesired) -> bool:
        """From now on those are unsteady who are; whether that is all that is new."""
        alone = self.due and desired == self._wanted
        self._unsteady, self._wanted = self._found(), desired
        return alone

    def calmed(self, desired: LoadBalancerDesired) -> LoadBalancerDesired:
        """What is desired, with the unsteady as backups."""
        if not self._unsteady:
            return desired
        pools = tuple(self._calmed(pool) for pool in desired.pools)
        return dataclasses.replace(desired, pools=pools)

    def told(self, desired: LoadBalancerDesired) -> list[str]:
        """Who is unsteady, a line each."""
        return [
            f"{server.name} in the pool {pool.name} fell {FALLS} times or more within "
            f"{WITHIN_SECONDS:g} s: it serves only while no other is well"
            for pool in desired.pools
            for server in self._lowered(pool)
        ]

    def _found(self) -> frozenset[Place]:
        oldest = self._clock() - WITHIN_SECONDS
        for place, falls in self._falls.items():
            self._falls[place] = [at for at in falls if at > oldest]
        return frozenset(place for place, falls in self._falls.items() if len(falls) >= FALLS)

    def _calmed(self, pool: Pool) -> Pool:
        lowered = self._lowered(pool)
        servers = tuple(
            dataclasses.replace(it, backup=True) if it in lowered else it for it in pool.servers
        )
        return dataclasses.replace(pool, servers=servers)

    def _lowered(self, pool: Pool) -> list[Server]:
        """None where nobody else would be left who serves all the time."""
        regular = [it for it in pool.servers if it.weight and not it.backup and not it.drain]
        unsteady = [it for it in regular if (pool.name, it.address, it.port) in self._unsteady]
        return unsteady if len(unsteady) < len(regular) else []
