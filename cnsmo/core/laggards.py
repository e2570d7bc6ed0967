# SPDX-License-Identifier: Apache-2.0
"""Nobody waits for ever for an agent that says it works, and does not follow.

Keys are replaced when all that work have applied the announcement, and one host after the other.
Both go by what agents say; so one that lies, or cannot, would hold all others up.
"""

from __future__ import annotations

import time

from oslo_log import log

from cnsmo.core.context import Core
from cnsmo.model.messages import EventMessage
from cnsmo.model.resource import AGENT, CORE, HOST, Row, member_kind, renewal_kind
from cnsmo.services import registry
from cnsmo.state import audit
from cnsmo.state.engine import aware, utc_now
from cnsmo.state.writer import Writer

LOG = log.getLogger(__name__)
BEHIND = "behind"

Place = tuple[str, str, str]
"""A deployment, a service, an instance; or a deployment, a host, a service."""
Turn = tuple[int, str | None]
"""Which generation of keys, and whose turn it is; None: all have it."""


class Laggards:
    """What a core process does about them, look by look."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._seen: set[Place] = set()
        """Agents that were behind at the last look: deployment, host, service."""
        self._told: set[Place] = set()
        """Those of them that were told of; one that has just begun anew is not, at once."""
        self._turns: dict[Place, tuple[Turn, float]] = {}
        """The turn, and since when; where it is nobody's, when that was seen (monotonic clock)."""

    def look(self, deployment: str) -> None:
        """Tell who is behind, and pass over whose turn lasts too long."""
        self._tell(deployment)
        for name, service in registry.services().items():
            if service.renews and self._core.store.has_any(deployment, [renewal_kind(name)]):
                self._pass_over(deployment, name)

    def _tell(self, deployment: str) -> None:
        core = self._core
        found = core.liveness.behind(deployment, core.alive_within, core.patience)
        now = {(deployment, host, service) for host, service in found}
        for _deployment, host, service in sorted((now & self._seen) - self._told):
            self._say(deployment, host, service, core.told_behind(found[host, service]))
        others = {it for it in self._seen if it[0] != deployment}
        self._told = (self._told & others) | (now & self._seen)
        self._seen = others | now

    def _pass_over(self, deployment: str, service: str) -> None:
        """Those whose turn it has been for too long: written, so that all hosts agree."""
        patience = self._core.patience.total_seconds()
        passed: list[str] = []

        def work(writer: Writer) -> None:
            passed.clear()
            asked = writer.rows(renewal_kind(service))
            if all(self._rests((deployment, service, row.name), row, patience) for row in asked):
                return
            kinds = (HOST, AGENT, service, renewal_kind(service), member_kind(service))
            view = writer.view(kinds)
            for row in asked:
                turn = (row.body["generation"], registry.service(service).awaited(view, row.name))
                host = self._overdue((deployment, service, row.name), turn, patience)
                if host is not None:
                    skipped = sorted({*row.body.get("skipped", ()), host})
                    writer.put(row.kind, row.name, {**row.body, "skipped": skipped}, CORE)
                    passed.append(host)

        self._core.write(deployment, audit.CORE.by("pass over"), work)
        for host in passed:
            why = f"it has not replaced its key for {patience:.0f} s; the others do not wait"
            self._say(deployment, host, service, why)

    def _rests(self, place: Place, row: Row, patience: float) -> bool:
        """Whether it was nobody's turn a while ago: all members are read only now and then."""
        known, since = self._turns.get(place, ((0, ""), 0.0))
        return known == (row.body["generation"], None) and time.monotonic() - since <= patience

    def _overdue(self, place: Place, turn: Turn, patience: float) -> str | None:
        """Whose turn it has been for longer than that."""
        known, since = self._turns.get(place, (turn, time.monotonic()))
        if known != turn or turn[1] is None:
            since = time.monotonic()
        self._turns[place] = (turn, since)
        return turn[1] if time.monotonic() - since > patience else None

    def _say(self, deployment: str, host: str, service: str, message: str) -> None:
        LOG.warning("deployment=%s host=%s service=%s: %s", deployment, host, service, message)
        self._core.announcer.send(
            EventMessage(
                type=f"agent.{BEHIND}",
                deployment=deployment,
                host=host,
                service=service,
                message=message,
                at=aware(utc_now()),
            )
        )
