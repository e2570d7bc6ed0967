# SPDX-License-Identifier: Apache-2.0
"""What agents of one process do: when they applied what, how often they gave up a try.

It listens at the seams of the agents' own code; nothing is done in another way because of it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any

from oslo_messaging import MessagingTimeout

from cnsmo.agent.process import AgentProcess
from cnsmo.agent.wakeup import Backoff
from cnsmo.bus.clients import CoreClient
from cnsmo.model.errors import Unavailable
from cnsmo.model.lifecycle import State
from cnsmo.model.messages import AgentReport

SERVICE = "vpn"
REPORTERS = 16
"""Threads that report side by side."""


class AgentWatch:
    """Counts from now on, for all agents of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(("timeouts", "retries", "beats", "syncs"), 0)
        self._times: dict[str, list[tuple[int, float]]] = {}
        self._ready: set[int] = set()
        """Clients whose agents are ready, as the core took it last."""
        _around(Backoff, "pause", lambda: self._add("retries"))
        self._watch_calls()

    def over(self, host: str, agent: AgentProcess) -> None:
        """Note what a host's agent brings in force."""
        noted = self._times[host] = []
        original = agent._heart.applied

        def applied(service: str, revision: int) -> None:
            original(service, revision)
            if service == SERVICE:
                noted.append((revision, time.monotonic()))

        agent._heart.applied = applied  # type: ignore[method-assign]

    def read(self) -> dict[str, int]:
        """Totals: calls without an answer in time, pauses before another try, beats of the hearts'
        own threads, questions for what changed; and how many agents are ``ready``, as the core
        took it."""
        with self._lock:
            return {**self._counts, "ready": len(self._ready)}

    def times(self, revision: int | None) -> list[float]:
        """When each had that in force, or something newer; of those that have it."""
        if revision is None:
            return []
        found = (next((at for it, at in list(noted) if it >= revision), None)
                 for noted in self._times.values())  # fmt: skip
        return [at for at in found if at is not None]

    def _add(self, name: str) -> None:
        with self._lock:
            self._counts[name] += 1

    def _note(self, client: CoreClient, ready: bool) -> None:
        with self._lock:
            (self._ready.add if ready else self._ready.discard)(id(client))

    def _watch_calls(self) -> None:
        original = CoreClient._call

        def call(client: CoreClient, method: str, **arguments: Any) -> Any:
            if method == "heartbeat" and threading.current_thread().name == "heartbeat":
                self._add("beats")
            elif method.startswith("sync"):
                self._add("syncs")
            try:
                answer = original(client, method, **arguments)
            except Unavailable as exc:
                if isinstance(exc.__cause__, MessagingTimeout):
                    self._add("timeouts")
                raise
            if method == "report" and arguments["report"]["service"] == SERVICE:
                self._note(client, arguments["report"]["state"] == State.READY)
            return answer

        CoreClient._call = call  # type: ignore[method-assign]


def report_often(agents: Sequence[AgentProcess], times: int) -> None:
    """Have each agent report that it is ready, so many times; as fast as the cores take it."""

    def report(agent: AgentProcess) -> None:
        revision = agent._heart.applied_revision(SERVICE)
        made = AgentReport(service=SERVICE, state=State.READY, applied_revision=revision)
        agent._client.report(made)

    with futures.ThreadPoolExecutor(REPORTERS) as pool:
        for done in [pool.submit(report, agent) for _ in range(times) for agent in agents]:
            done.result()


def _around(owner: type, name: str, note: Callable[[], None]) -> None:
    original = getattr(owner, name)

    def called(*args: Any, **kwargs: Any) -> Any:
        note()
        return original(*args, **kwargs)

    setattr(owner, name, called)
