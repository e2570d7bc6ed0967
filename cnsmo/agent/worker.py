# SPDX-License-Identifier: Apache-2.0
"""The work of an agent's process: fetch, announce, reconcile, report; from the disk when alone."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Collection, Iterable, Sequence
from math import inf

from oslo_log import log

from cnsmo.agent import rounds
from cnsmo.agent.heartbeat import Heart
from cnsmo.agent.identity import HostIdentity
from cnsmo.agent.notice import Notice
from cnsmo.agent.pace import pause
from cnsmo.agent.reconcile import Outcome, ServiceAgent
from cnsmo.agent.report import report_of
from cnsmo.agent.settings import Settings
from cnsmo.agent.standing import Standing
from cnsmo.agent.units import Units
from cnsmo.agent.wakeup import Reason
from cnsmo.bus.clients import CoreClient
from cnsmo.model.errors import CnsmoError, Denied, Removed, Unavailable
from cnsmo.model.lifecycle import State
from cnsmo.model.resource import HOST, Changes, View, joined, member_kind
from cnsmo.services import registry
from cnsmo.services.base import NetworkService
from cnsmo.state.replica import Replica

LOG = log.getLogger(__name__)


class Worker:
    """One host's services, kept equal to the replica. Not thread-safe: one thread works."""

    def __init__(
        self,
        settings: Settings,
        identity: HostIdentity,
        client: CoreClient,
        heart: Heart,
        standing: Standing | None = None,
        notice: Notice | None = None,
    ) -> None:
        """standing: where it writes down how the services stand, if somebody wants to know.
        notice: where to say what was reported, beside the core."""
        self._settings = settings
        self._client = client
        self._heart = heart
        self._standing = standing
        self._notice = notice
        self._host = identity.host
        self._replica = Replica(settings.state_dir.replica(), identity.deployment, identity.id)
        self._label = joined(identity.deployment, identity.host)
        self._agents = [
            ServiceAgent(service, settings.system, settings.state_dir, self._label)
            for service in registry.in_order(settings.services)
        ]
        self._reported: dict[str, rounds.Said] = {}
        """How each service stood when that was said last, whether the core took it or not."""
        self._told: dict[str, rounds.Said] = {}
        """What the core took."""
        self._told_facts = False
        self._unfinished = False
        """Whether a round ended early: what it had fetched is still to be told and looked at."""
        self._disk_trouble = ""
        self._left_over: list[str] = []
        """What services made that nobody runs any more, and could not be taken away."""
        self._refused: dict[str, list[str]] = {}

    def return_from_disk(self) -> None:
        """Bring the last known state in force before anybody is asked."""
        self._clear_strays()
        if self._replica.load():
            LOG.info(
                "deployment=%s host=%s revision=%d from disk",
                self._replica.deployment, self._host, self._replica.revision,
            )  # fmt: skip
            self.look_after()

    @property
    def look_at(self) -> float:
        """When the next service wants to be looked at again, by the monotonic clock."""
        return min((agent.look_at for agent in self._agents), default=inf)

    def look_after(self, due: bool = False) -> None:
        """Keep the host equal to the last known state, without the core.

        due: only the services that want to be looked at again by now.
        """
        view = self._replica.view()
        for agent in self._due() if due else self._agents:
            outcome = self._reconcile(agent, view, [], thorough=True)
            if outcome is not None and outcome.reason:
                LOG.warning("%s: %s: %s", agent.service.name, outcome.state, outcome.reason)

    def look(self) -> bool:
        """Look at the services that want to be looked at again by now; nothing is fetched.

        :return: whether the core was told something, which is to be fetched now.
        :raises CnsmoError: what the core answered, or that it does not.
        """
        news = False
        for agent in self._due():
            name = agent.service.name
            applied = self._heart.applied_revision(name)
            news |= self._announce([agent]) > 0
            view, refused = self._replica.view(), self._refusals(agent)
            outcome = self._reconcile(agent, view, refused, thorough=True, online=True)
            if outcome is not None:
                self._tell(name, outcome, asked=False)
            if self._heart.applied_revision(name) > applied:
                self._heart.beat()
            else:
                self._heart.beat_until_confirmed(name)
        return news

    def look_for_figures(self) -> None:
        """Look at the services that have figures; the core is told nothing, nothing is changed."""
        if self._standing is None:
            return
        for agent in self._agents:
            last = self._standing.last(agent.service)
            if last is not None and _has_figures(agent.service):
                self._note(agent.service, agent.look(last.outcome))
        self._standing.looked()

    def _note(self, service: NetworkService, outcome: Outcome) -> None:
        if self._standing is not None:
            revision = self._heart.applied_revision(service.name)
            self._standing.note(service, outcome, revision)

    def _due(self) -> list[ServiceAgent]:
        now = time.monotonic()
        return [agent for agent in self._agents if agent.look_at <= now]

    def work(self, reasons: Collection[Reason]) -> None:
        """One round with the core: tell, fetch, announce, reconcile, report.

        Rows that only tell how other agents stand do not make anybody announce or look anew.

        :raises CnsmoError: what the core answered, or that it does not.
        """
        if Reason.RESYNC in reasons:
            self._clear_strays()
        self._tell_facts(Reason.RESYNC in reasons)
        changes = self._fetch()
        left, self._unfinished = self._unfinished, True
        wanted = Reason.REPORT in reasons or self._heart.is_asked(changes.observe_at)
        asked = wanted or bool(set(reasons) & {Reason.RESYNC, Reason.LOOK})
        plan = rounds.plan(changes.rows, asked, left, self._behind())
        untold = False
        trouble: Unavailable | None = None
        if plan.looks:
            if plan.announces:
                try:
                    if self._announce(self._agents) > self._replica.revision:
                        self._fetch()
                except Unavailable as exc:  # what is known is brought in force all the same
                    trouble = exc
            view = self._replica.view()
            outcomes = [
                (agent, self._reconcile(agent, view, self._refusals(agent), plan.thorough, True))
                for agent in self._agents
            ]
            if trouble is not None:
                raise trouble
            for agent, outcome in outcomes:
                if outcome is not None:
                    self._tell(agent.service.name, outcome, left or wanted)
                    untold |= outcome.untold
        if plan.beats and not untold:
            self._heart.beat(catch_up=plan.catches_up)
        self._unfinished = False

    def teardown(self) -> list[str]:
        """Take away all that the agents made, and forget the deployment.

        :return: what could not be taken away.
        """
        failures = [failure for agent in reversed(self._agents) for failure in agent.remove()]
        failures += self._clear_strays()
        for failure in failures:
            LOG.error("%s", failure)
        if not failures:
            self._settings.state_dir.forget()
        return failures

    def _clear_strays(self) -> list[str]:
        """Take down what services made that nobody runs any more.

        :return: what could not be taken away; it is told with the state of what does run.
        """
        state_dir, system = self._settings.state_dir, self._settings.system
        self._left_over = [
            f"{name} is not run here any more, but {failure}"
            for name in state_dir.strays(self._settings.services)
            for failure in Units(name, system, state_dir, self._label).remove_all()
        ]
        return self._left_over

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
        if rounds.moves(changes.rows) or self._disk_trouble:
            self._save()
        view = self._replica.view()
        announced = {
            agent.service.name: max(
                (
                    row.revision
                    for row in view.rows(member_kind(agent.service.name))
                    if row.name.endswith(joined("", self._host))
                ),
                default=0,
            )
            for agent in self._agents
        }
        misheard = any(
            rounds.is_misheard(view, self._host, service, told)
            for service, told in self._told.items()
        )
        self._heart.knows(self._replica.revision, announced, misheard)
        return changes

    def _save(self) -> None:
        try:
            self._replica.save()
            self._disk_trouble = ""
        except OSError as exc:
            self._disk_trouble = f"the replica cannot be written to disk: {exc.strerror}"
            LOG.error("%s; it is kept in memory, and tried again", self._disk_trouble)

    def _announce(self, agents: Iterable[ServiceAgent]) -> int:
        """Announce what is new.

        :return: the newest revision that holds something that was told just now.
        """
        newest = 0
        for agent in agents:
            told = agent.announce(
                self._replica.view(),
                self._host,
                self._heart.confirmed.get(agent.service.name, 0),
                self._client.announce,
                self._client.withdraw,
            )
            self._refused[agent.service.name] = told.refused
            newest = max(newest, told.revision)
        return newest

    def _refusals(self, agent: ServiceAgent) -> list[str]:
        return self._refused.get(agent.service.name, [])

    def _tell(self, service: str, outcome: Outcome, asked: bool) -> None:
        """Report when a service stands differently than was said last, or when asked to."""
        if outcome.untold:
            return
        if outcome.repaired:
            told = "drift was repaired: " + "; ".join(outcome.repaired[:5])
            self._report(service, dataclasses.replace(outcome, state=State.DEGRADED, reason=told))
        stands = (outcome.state, outcome.reason)
        if asked or rounds.is_news(self._reported.get(service), stands):
            self._report(service, outcome)

    def _reconcile(
        self,
        agent: ServiceAgent,
        view: View,
        refused: Sequence[str],
        thorough: bool,
        online: bool = False,
    ) -> Outcome | None:
        """None when nothing is known yet: then nothing is touched."""
        if thorough:
            agent.look_at = inf  # what it wants after that it says anew
        if view.revision == 0:
            return None
        reach = self._reach if online else None
        later = 0.0 if thorough else pause(len(view.everybody))
        outcome = agent.reconcile(view, self._host, list(refused), thorough, reach, later)
        if outcome.applied:
            self._heart.applied(agent.service.name, view.revision)
        trouble = "; ".join([*filter(None, [self._disk_trouble]), *self._left_over])
        if trouble and outcome.state is State.READY:
            outcome = dataclasses.replace(outcome, state=State.DEGRADED, reason=trouble)
        self._note(agent.service, outcome)
        return outcome

    def _reach(self, patience: float) -> None:
        """Reach the core over a new connection. patience: seconds."""
        self._client.knock(patience)
        self._client.sync(self._replica.revision)

    def _report(self, service: str, outcome: Outcome) -> None:
        """Report one service; what the core does not take of it must not stop the others."""
        revision = self._heart.applied_revision(service)
        report = report_of(service, outcome, revision, self._heart.time())
        try:
            self._client.report(report)
        except (Unavailable, Removed, Denied):
            raise
        except CnsmoError as exc:
            LOG.warning("%s: the core does not take the report: %s", service, exc)
            self._told.pop(service, None)  # it is not told again and again
        else:
            self._told[service] = rounds.taken(report)
            self._heart.misheard = False
        self._reported[service] = (outcome.state, outcome.reason)
        if self._notice is not None:
            self._notice.service(service, outcome.state, outcome.reason)


def _has_figures(service: NetworkService) -> bool:
    return type(service).figures is not NetworkService.figures
