# SPDX-License-Identifier: Apache-2.0
"""The work of an agent's process: fetch, announce, reconcile, report; from the disk when alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from oslo_log import log

from cnsmo.agent.heartbeat import Heart
from cnsmo.agent.identity import HostIdentity
from cnsmo.agent.reconcile import Outcome, ServiceAgent, report_of
from cnsmo.agent.settings import Settings
from cnsmo.bus.clients import CoreClient
from cnsmo.model.lifecycle import State
from cnsmo.model.resource import AGENT, HOST, Changes, View, joined, member_kind
from cnsmo.services import registry
from cnsmo.state.replica import Replica

LOG = log.getLogger(__name__)


class Worker:
    """One host's services, kept equal to the replica. Not thread-safe: one thread works."""

    def __init__(
        self, settings: Settings, identity: HostIdentity, client: CoreClient, heart: Heart
    ) -> None:
        self._settings = settings
        self._client = client
        self._heart = heart
        self._host = identity.host
        self._replica = Replica(settings.state_dir.replica(), identity.deployment, identity.id)
        self._agents = [
            ServiceAgent(
                registry.service(name),
                settings.system,
                settings.state_dir,
                joined(identity.deployment, identity.host),
            )
            for name in settings.services
        ]
        self._reported: dict[str, tuple[State, str]] = {}
        self._told_facts = False
        self._disk_trouble = ""

    def return_from_disk(self) -> None:
        """Bring the last known state in force before anybody is asked."""
        if self._replica.load():
            LOG.info(
                "deployment=%s host=%s revision=%d from disk",
                self._replica.deployment, self._host, self._replica.revision,
            )  # fmt: skip
            self.look_after()

    def look_after(self) -> None:
        """Keep the host equal to the last known state, without the core."""
        for agent in self._agents:
            outcome = self._reconcile(agent, self._replica.view(), [])
            if outcome is not None and outcome.reason:
                LOG.warning("%s: %s: %s", agent.service.name, outcome.state, outcome.reason)

    def work(self, resync: bool, report: bool) -> float | None:
        """One round with the core. resync: look at what is really there, even if nothing is new;
        report: say how things stand, even if they stand as before.

        :return: seconds after which a driver wants to look again, if one does.
        :raises CnsmoError: what the core answered, or that it does not.
        """
        self._tell_facts(resync)
        changes = self._fetch()
        again: list[float] = []
        if changes.rows or resync or report or self._behind():
            refused = self._announce()
            for agent in self._agents:
                outcome = self._serve(agent, refused.get(agent.service.name, []), report)
                if outcome is not None and outcome.again is not None:
                    again.append(outcome.again)
        if not changes.rows or any(row.kind != AGENT for row in changes.rows):
            self._heart.beat()
        return min(again, default=None)

    def teardown(self) -> list[str]:
        """Take away all that the agents made, and forget the deployment.

        :return: what could not be taken away.
        """
        failures = [failure for agent in self._agents for failure in agent.remove()]
        for failure in failures:
            LOG.error("%s", failure)
        if not failures:
            self._settings.state_dir.forget()
        return failures

    def _behind(self) -> bool:
        """Whether some agent has not brought in force what the replica holds."""
        return any(
            self._heart.applied_revision(agent.service.name) < self._replica.revision
            for agent in self._agents
        )

    def _tell_facts(self, again: bool) -> None:
        """Facts may change while the host runs (a floating IP arrives, a link gets another MTU)."""
        if self._told_facts and not again:
            return
        facts = self._settings.facts()
        row = self._replica.view().get(HOST, self._host)
        known = {} if row is None else row.body
        if any(known.get(key) != value for key, value in facts.model_dump(mode="json").items()):
            self._client.facts(facts)
        self._told_facts = True

    def _fetch(self) -> Changes:
        changes = self._client.sync(self._replica.revision)
        self._replica.update(changes)
        if any(row.kind != AGENT for row in changes.rows) or self._disk_trouble:
            self._save()
        own = [
            row.revision
            for agent in self._agents
            for row in self._replica.view().rows(member_kind(agent.service.name))
            if row.name.endswith(joined("", self._host))
        ]
        self._heart.knows(self._replica.revision, max(own, default=0))
        return changes

    def _save(self) -> None:
        try:
            self._replica.save()
            self._disk_trouble = ""
        except OSError as exc:
            self._disk_trouble = f"the replica cannot be written to disk: {exc.strerror}"
            LOG.error("%s; it is kept in memory, and tried again", self._disk_trouble)

    def _announce(self) -> dict[str, list[str]]:
        """Announce what is new, and fetch what the core made of it.

        :return: what the core refused, by service.
        """
        refused = {}
        newest = self._replica.revision
        for agent in self._agents:
            told = agent.announce(
                self._replica.view(),
                self._host,
                self._heart.confirmed,
                self._client.announce,
                self._client.withdraw,
            )
            refused[agent.service.name] = told.refused
            newest = max(newest, told.revision)
        if newest > self._replica.revision:
            self._fetch()
        return refused

    def _serve(self, agent: ServiceAgent, refused: list[str], report: bool) -> Outcome | None:
        """Reconcile one service, and report when it stands differently, or was asked for."""
        name = agent.service.name
        outcome = self._reconcile(agent, self._replica.view(), refused)
        if outcome is None:
            return None
        if outcome.repaired:
            told = "drift was repaired: " + "; ".join(outcome.repaired[:5])
            self._report(name, dataclasses.replace(outcome, state=State.DEGRADED, reason=told))
        if report or self._reported.get(name) != (outcome.state, outcome.reason):
            self._report(name, outcome)
        return outcome

    def _reconcile(self, agent: ServiceAgent, view: View, refused: Sequence[str]) -> Outcome | None:
        """None when nothing is known yet: then nothing is touched."""
        if view.revision == 0:
            return None
        outcome = agent.reconcile(view, self._host, list(refused))
        if outcome.applied:
            self._heart.applied(agent.service.name, view.revision)
        if self._disk_trouble and outcome.state is State.READY:
            outcome.state, outcome.reason = State.DEGRADED, self._disk_trouble
        return outcome

    def _report(self, service: str, outcome: Outcome) -> None:
        self._client.report(report_of(service, outcome, self._heart.applied_revision(service)))
        self._reported[service] = (outcome.state, outcome.reason)
