# SPDX-License-Identifier: Apache-2.0
"""Where an agent tells its figures and how it is; nothing that it does waits for that."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from cnsmo.agent.heartbeat import Heart
from cnsmo.agent.identity import HostIdentity
from cnsmo.agent.settings import Settings
from cnsmo.agent.standing import Stand
from cnsmo.agent.wakeup import Backoff
from cnsmo.conf import metrics as options
from cnsmo.model.lifecycle import State
from cnsmo.telemetry.health import Check, Health, Level
from cnsmo.telemetry.post import Post

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

FIRST_PAUSE = 1.0
BEATS = 3
"""So many heartbeats without an answer, and the core is said to be away."""
LOOKS = 3
"""So many times [agent] resync without a look, and the agent is said to hang."""


class Metrics(Post):
    """A place at which monitoring can ask. A port that is taken is tried again, less and less
    often."""

    def __init__(
        self,
        place: tuple[str, int],
        retry_max: float,
        identity: HostIdentity,
        read: Callable[[], list[Stand]],
        health: Callable[[], Health] = lambda: Health(()),
    ) -> None:
        """place: address and TCP port. retry_max: longest pause between two tries, in seconds."""

        def registry() -> CollectorRegistry:
            from cnsmo.agent import exposition

            return exposition.registry(identity, read)

        pause = Backoff(FIRST_PAUSE, retry_max).pause
        super().__init__(place, options.GROUP, pause, registry, health)


class Pulse:
    """How an agent's process is."""

    def __init__(self, settings: Settings, heart: Heart, last: Callable[[], list[Stand]]) -> None:
        """last: how the services stood when they were looked at last."""
        self._settings = settings
        self._heart = heart
        self._last = last

    def health(self) -> Health:
        """Each service, and the way to the core: without it, what is in force stays in force."""
        stands = {stand.service.name: stand for stand in self._last()}
        latest = time.time() - LOOKS * self._settings.resync
        services = [_service(it, stands.get(it), latest) for it in self._settings.services]
        return Health.of([*services, self._core()])

    def _core(self) -> Check:
        silent = time.monotonic() - self._heart.heard_at
        if silent <= BEATS * self._settings.heartbeat + self._settings.rpc_timeout:
            return Check("core")
        return Check("core", Level.DEGRADED, f"has not answered for {silent:.0f} s")


def _service(name: str, stand: Stand | None, latest: float) -> Check:
    """latest: when it must have been looked at, in seconds of the epoch."""
    if stand is None:
        return Check(name, Level.FAILING, "nothing is known to be in force yet")
    outcome = stand.outcome
    if outcome.seen_at < latest:
        return Check(
            name, Level.FAILING, f"not looked at for {time.time() - outcome.seen_at:.0f} s"
        )
    if outcome.state is State.ERROR:
        return Check(name, Level.FAILING, outcome.reason)
    if outcome.state is not State.READY or outcome.missing:
        missing = f"not as declared: {', '.join(outcome.missing)}" if outcome.missing else ""
        return Check(name, Level.DEGRADED, outcome.reason or missing or str(outcome.state))
    return Check(name)
