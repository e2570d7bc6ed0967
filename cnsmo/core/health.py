# SPDX-License-Identifier: Apache-2.0
"""Looks for agents that fell silent, and does what follows from it: see core.verdict."""

from __future__ import annotations

import datetime

from oslo_log import log

from cnsmo.core.context import Core
from cnsmo.core.departures import Departures
from cnsmo.core.host_rows import transition
from cnsmo.core.laggards import Laggards
from cnsmo.core.verdict import Doubt, Verdict, hold, judge
from cnsmo.model.lifecycle import State
from cnsmo.model.messages import EventMessage
from cnsmo.model.resource import AGENT, CORE, joined
from cnsmo.model.silence import Silence
from cnsmo.state import audit, silences
from cnsmo.state.writer import Writer

LOG = log.getLogger(__name__)


class Health:
    """Looks at one deployment after the other, whenever it is told to."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._departures = Departures(core)
        self._laggards = Laggards(core)

    def listen(self) -> None:
        """Note of which deployments somebody is heard: every core does, whoever looks."""
        self._departures.listen()

    def look(self, deployment: str, listening: float) -> None:
        """One look. listening: for how many seconds this core has been able to hear and to look.

        :raises NotFound: when the deployment was deleted meanwhile.
        """
        rules = self._core.rules
        seen = self._core.silences.picture(deployment, rules.late_after)
        if seen is None:
            return
        found = judge(seen.agents, seen.hosts, Doubt(listening, seen.suspected), rules)
        if found.late or found.heard:
            self._core.silences.note(deployment, rules.late_after, bool(found.late))
        self._suspect(deployment, found)
        if not found.suspicious:  # one word for all of them is enough
            for agent in found.late:
                self._tell(deployment, "agent.late", agent, _not_heard(agent.seconds))
        for agent in found.heard:
            if agent.there:
                self._tell(deployment, "agent.heard", agent, "it is heard again")
        if found.down:
            self._mark_down(deployment, found.down)
        self._departures.look(deployment, listening)
        self._laggards.look(deployment)

    def _suspect(self, deployment: str, found: Verdict) -> None:
        if found.suspicious and self._core.silences.suspect(deployment, True):
            told = (
                f"{found.silent} of {found.hosts} hosts are silent at once: rather it is the core, "
                "the broker or the network; none is said to be down"
            )
            LOG.warning("deployment=%s %s", deployment, told)
            self._tell(deployment, "core.suspicious", None, told)
        elif found.confident and self._core.silences.suspect(deployment, False):
            told = f"{found.silent} of {found.hosts} hosts are silent: who is, is down from now on"
            LOG.info("deployment=%s %s", deployment, told)
            self._tell(deployment, "core.confident", None, told)

    def _tell(self, deployment: str, kind: str, agent: Silence | None, message: str) -> None:
        self._core.announcer.send(
            EventMessage(
                type=kind,
                deployment=deployment,
                host=agent.host if agent else "",
                service=agent.service if agent else "",
                message=message,
                at=datetime.datetime.now(datetime.UTC),
            )
        )

    def _mark_down(self, deployment: str, agents: tuple[Silence, ...]) -> None:
        rules = self._core.rules

        def work(writer: Writer) -> None:
            for agent in agents:
                row = writer.get(AGENT, joined(agent.host, agent.service))
                if row is None or row.gone:
                    continue
                count = silences.downs(
                    writer, agent.host, agent.service, rules.down_after, rules.window
                )
                if count:
                    reason = _not_heard(rules.down_after)
                    held = hold(count, rules)
                    if held:
                        reason += (
                            f"; down {count} times lately: back once it is heard for {held:g} s"
                        )
                    transition(writer, agent.host, agent.service, State.DOWN, reason, CORE)

        self._core.write(deployment, audit.CORE.by("health"), work)


def _not_heard(seconds: float) -> str:
    return f"no heartbeat for {round(seconds, 1):g} s; the data plane may well be working"
