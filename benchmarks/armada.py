# SPDX-License-Identifier: Apache-2.0
"""A deployment of many agents, shared out over some processes; RabbitMQ, PostgreSQL, real cores.

The agents are the real ones, with the driver ``noop``; all periods are the field's defaults. The
processors are shared by everything: agents, cores, broker and database.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent import futures
from types import TracebackType
from typing import Any, Self

from benchmarks.agent_watch import SERVICE
from benchmarks.child import Child
from benchmarks.run import Run
from benchmarks.stage import DEPLOYMENT, Stage
from cnsmo.model.messages import TokenRequest

VPN = "backbone: {{cidr: 10.64.0.0/12, driver: noop, keepalive: {keepalive}}}"
KEEPALIVES = 3600
LOOK_SECONDS = 0.1
PATIENCE_SECONDS = 600.0
"""After which the benchmark gives up on what should be true."""


class Armada:
    """Up while its context lasts: cores, and processes for agents, of which none has started."""

    def __init__(self, run: Run, hosts: int, cores: int = 1, shares: int = 1) -> None:
        """shares: so many processes of agents at least."""
        self.hosts = hosts
        self._run = run
        self._count = cores
        self._shares = max(shares, -(-hosts // run.scale.fleet_share))
        self._changes = 0

    def __enter__(self) -> Self:
        self._database = self._run.database()
        self.stage = Stage(self._run, database=self._database.__enter__())
        try:
            self.stage.__enter__()
            try:
                self._raise()
            except BaseException:
                self.stage.__exit__(None, None, None)
                raise
        except BaseException:
            self._database.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.stage.__exit__(kind, error, trace)
        finally:
            self._database.__exit__(kind, error, trace)

    def _raise(self) -> None:
        stage = self.stage
        configs = [stage.config]
        self.cores = [stage.core]
        if self._count > 1:
            configs.append(stage.second_config())
            self.cores.append(stage.child("core_process", str(configs[1])))
        self.fleets: list[Child] = [stage.fleet]
        for number in range(1, self._shares):
            config = configs[number % len(configs)]
            self.fleets.append(stage.child("fleet_process", str(config)))
        self._pool = futures.ThreadPoolExecutor(len(self.fleets))
        self.change()

    def storm(self) -> float:
        """All agents start at once; returns when, by the monotonic clock."""
        request = TokenRequest(groups=["mesh"], uses=self.hosts)
        token = self.stage.client.token_create(DEPLOYMENT, request).token
        questions = []
        for number, fleet in enumerate(self.fleets):
            mine = range(number, self.hosts, len(self.fleets))
            questions.append((fleet, {f"host{host:05}": token for host in mine}))
        begun = time.monotonic()
        list(self._pool.map(lambda it: it[0].ask(start=it[1], services=[SERVICE]), questions))
        return begun

    def change(self) -> int:
        """An operator changes one row; returns its revision."""
        self._changes += 1
        self.stage.apply(VPN.format(keepalive=self._changes % KEEPALIVES + 1))
        return self.stage.revision

    def ask(self, **question: Any) -> list[dict[str, Any]]:
        """The same of all processes of agents, side by side."""
        return list(self._pool.map(lambda fleet: fleet.ask(**question), self.fleets))

    def totals(self, *names: str) -> dict[str, float]:
        """What all agents together have counted so far."""
        told = self.ask()
        return {name: sum(it[name] for it in told) for name in names}

    def spent(self) -> float:
        """Seconds of processor time of all cores so far."""
        return sum(core.ask()["cpu"] for core in self.cores)

    def until(self, done: Callable[[], bool], what: str) -> float:
        """Look until it is so; returns when, by the monotonic clock. Raises TimeoutError."""
        until = time.monotonic() + PATIENCE_SECONDS
        while not done():
            if time.monotonic() > until:
                raise TimeoutError(f"waited in vain until {what}")
            time.sleep(LOOK_SECONDS)
        return time.monotonic()

    def until_joined(self) -> float:
        """Until all hosts have an identity."""
        return self.until(lambda: self.totals("joined")["joined"] >= self.hosts, "all have joined")

    def until_ready_since(self, begun: float) -> float:
        """Until all agents are ready, as the core took it, and have in force the revision of what
        was declared and announced last. Later ones only tell of agents; nobody applies them.

        :return: seconds since that monotonic time.
        """
        self.until(lambda: self.totals("ready")["ready"] >= self.hosts, "all are ready")
        client = self.stage.client
        members = client.member_list(DEPLOYMENT, SERVICE, "backbone").values()
        head = max(row.revision for row in (*client.service_list(DEPLOYMENT), *members))
        return self.until(lambda: self._least() >= head, f"all have applied {head}") - begun

    def applied_at(self, revision: int) -> list[float]:
        """Wait until all have that in force; when each had, by the monotonic clock."""
        self.until(lambda: self._least() >= revision, f"all have applied {revision}")
        return [at for told in self.ask(times=revision) for at in told["times"]]

    def _least(self) -> int:
        return min(int(told["applied"]) for told in self.ask())
