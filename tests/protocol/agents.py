# SPDX-License-Identifier: Apache-2.0
"""What an agent may do next, by what its core holds; what others do in between is the world's.

The worker's round is cut where another may come between: it asks (and takes the answer, and saves
it, and brings it in force), and then it tells.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

from cnsmo.agent import rounds
from cnsmo.model import lifecycle
from cnsmo.model.errors import Removed
from cnsmo.model.messages import AgentReport, HeartbeatAnswer
from cnsmo.state.protocol import Copy
from tests.protocol.double import DEPLOYMENT, SERVICE, Base, held
from tests.protocol.invariants import Wrong, check_base, check_copy, check_report, ident, shown
from tests.protocol.parts import HOSTS, Agent, Answer, Late, Parts

READY, ERROR = lifecycle.State.READY.value, lifecycle.State.ERROR.value
SYNC, REPORT = "sync", "report"
WAKES = ({SYNC}, {SYNC, REPORT})
"""A hint, or a heartbeat's answer; an operator who looks, or who starts the process."""
GONE = -1
"""In place of a base or an answer: the core says that the host was removed."""


class Way(NamedTuple):
    """A step of an agent, and where it leads; ``spare``: what it costs."""

    what: str
    base: int
    agent: int
    spare: int = 0
    late: Late | None = None


class Agents:
    """Their steps. What the product computes in one is computed once, and looked up after that."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        for name in ("ways", "wrote", "calmed", "turn", "_ask", "_take", "_heard"):
            setattr(self, name, functools.cache(getattr(self, name)))

    def born(self, at: int, life: int) -> Agent:
        """One that has joined just now."""
        return Agent(at, life, memory=self._parts.nothing, retry=True)

    def ways(self, base: int, number: int, spare: bool) -> tuple[Way, ...]:
        """All steps of an agent; spare: also those that cost something."""
        agent = self._parts.agents[number]
        if agent.life < 0:
            return ()
        found = [way for way in self._ways(base, agent) if spare or not way.spare]
        return tuple(way for way in found if way[1:] != (base, number, 0, None))

    def _ways(self, base: int, agent: Agent) -> Iterator[Way]:
        name = HOSTS[agent.host]
        if agent.call:
            yield from self._telling(base, agent)
        else:
            yield from self._asking(base, agent)
            yield self._way(f"{name} asks in vain", base, agent._replace(retry=True))
            if agent.told == ERROR:
                yield self._way(f"{name} looks again", base, self._look(agent))
        who = ident(agent.host, agent.life)
        if (beaten := self.wrote(base, "beat", name, who, agent.applied)) != GONE:
            yield self._way(f"{name} beats", beaten, agent)
        if dict(self._parts.bases[base].living).get(name) == who:
            yield from self._hanging(base, agent)
        yield self._way(f"{name} starts anew", base, self._restarted(agent))
        if agent.backup >= 0:
            old = self._restarted(agent._replace(disk=agent.backup))
            yield self._way(f"{name}'s VM is put back", base, old, spare=1)

    def _asking(self, base: int, agent: Agent) -> Iterator[Way]:
        """A round, until it has something to tell.

        The answer is that of now; when it comes is all the same, for nothing that its worker does
        before depends on others.
        """
        name = HOSTS[agent.host]
        answer = self._ask(base, agent.host, agent.life, self._revision(agent.memory))
        if answer == GONE:
            yield self._way(f"{name} asks and hears of its end", base, gone(agent))
            return
        for asked in {REPORT in rounds.due(woken, owed(agent)) for woken in WAKES}:
            what = f"{name} asks{', to report anew' * asked}"
            yield self._way(what, base, self._take(agent, answer, asked, READY))
            failed = self._take(agent, answer, asked, ERROR)
            if failed.call:
                yield self._way(f"{what}, and fails", base, failed, spare=1)

    def _telling(self, base: int, agent: Agent) -> Iterator[Way]:
        name, who = HOSTS[agent.host], ident(agent.host, agent.life)
        lost = agent._replace(call=(), retry=True)
        yield self._way(f"{name}'s report is lost", base, lost)
        made = self.wrote(base, "report", name, who, *agent.call)
        if made == GONE:
            yield self._way(f"{name} reports and hears of its end", base, gone(agent))
            return
        yield self._way(f"{name} reports {agent.call[0]}", made, told(agent))
        yield self._way(f"{name} reports {agent.call[0]} and hears nothing", made, lost)

    def _hanging(self, base: int, agent: Agent) -> Iterator[Way]:
        """A core proves who calls, and then hangs; the call runs into its time-out."""
        lates = [Late("beat", agent.host, agent.life, applied=agent.applied)]
        if agent.call:
            lates.append(Late("report", agent.host, agent.life, *agent.call))
        if not agent.told:
            lates.append(Late("join", agent.host, agent.life))
        for late in lates:
            yield self._way(f"a core hangs with {late}", base, agent, spare=1, late=late)

    def _way(
        self, what: str, base: int, agent: Agent, spare: int = 0, late: Late | None = None
    ) -> Way:
        return Way(what, base, self._parts.agents.number(agent), spare, late)

    # when faults have ended

    def calmed(self, number: int) -> int:
        """What it waits for does not come."""
        agent = self._parts.agents[number]
        retry = agent.retry or bool(agent.call)
        return self._parts.agents.number(agent._replace(call=(), retry=retry, backup=-1))

    def turn(self, base: int, number: int) -> tuple[int, int]:
        """It tries again what failed; then its heart beats, and it does what the answer says."""
        agent = self._parts.agents[number]
        if agent.retry:
            base, agent = self._round(base, agent, asked=True)
        elif agent.told == ERROR:
            agent = self._look(agent)
            base, agent = self._report(base, agent) if agent.call else (base, agent)
        if agent.life > 0:
            base, agent = self._beat(base, agent)
        return base, self._parts.agents.number(agent)

    def _beat(self, base: int, agent: Agent) -> tuple[int, Agent]:
        host, who = HOSTS[agent.host], ident(agent.host, agent.life)
        made = self.wrote(base, "beat", host, who, agent.applied, exact=True)
        if made == GONE:
            return self._round(base, agent, asked=False)
        found = self._heard(made, agent.host, self._revision(agent.memory), agent.misheard)
        if found.sync or found.report:
            return self._round(made, agent, found.report)
        return made, agent

    def _round(self, base: int, agent: Agent, asked: bool) -> tuple[int, Agent]:
        answer = self._ask(base, agent.host, abs(agent.life), self._revision(agent.memory))
        if answer == GONE:
            return base, gone(agent)
        agent = self._take(agent, answer, asked, READY)
        return self._report(base, agent) if agent.call else (base, agent)

    def _report(self, base: int, agent: Agent) -> tuple[int, Agent]:
        who = ident(agent.host, agent.life)
        made = self.wrote(base, "report", HOSTS[agent.host], who, *agent.call, exact=True)
        return (base, gone(agent)) if made == GONE else (made, told(agent))

    # what the product does

    def _heard(self, base: int, at: int, seen: int, misheard: bool) -> rounds.Heard:
        found = self._parts.bases[base]
        answer = HeartbeatAnswer(
            head=found.head,
            confirmed=found.confirmed(),
            forgotten=found.forgotten(HOSTS[at]),
        )
        return rounds.heard(answer, seen, {}, {}, None, misheard)

    def _ask(self, base: int, at: int, life: int, since: int) -> int:
        found = self._parts.bases[base]
        try:
            found.check(HOSTS[at], ident(at, life))
        except Removed:
            return GONE
        changes = found.changes(since)
        if not changes.snapshot and changes.head < since:
            raise Wrong(f"from {since} on it is told what changed until {changes.head}")
        return self._parts.answers.number(Answer(changes, found.live()))

    def _take(self, agent: Agent, number: int, asked: bool, outcome: str) -> Agent:
        """One round, from the answer on; the call it makes next, if it has something to tell."""
        answer = self._parts.answers[number]
        before = self._parts.copies[agent.memory]
        copy = before.taking(answer.changes)
        check_copy(before, copy, answer)
        disk, backup = agent.disk, agent.backup
        if rounds.moves(answer.changes.rows):
            disk = self._save(copy, disk)
            backup = disk if backup < 0 else backup
            copy = copy.saved()
        behind = agent.applied < copy.view.revision
        plan = rounds.plan(answer.changes.rows, asked, agent.left, behind)
        host = HOSTS[agent.host]
        misheard = rounds.is_misheard(copy.view, host, SERVICE, said(agent.told))
        memory = self._parts.copies.number(copy)
        later = agent._replace(memory=memory, disk=disk, backup=backup, misheard=misheard)
        if not plan.looks:
            return later._replace(call=(), left=False, retry=False)
        if outcome == READY:
            later = later._replace(applied=copy.view.revision)
        if agent.left or asked or rounds.is_news(said(agent.told), said(outcome)):
            return later._replace(call=(outcome, later.applied), left=True)
        return later._replace(call=(), left=False, retry=False)

    def _look(self, agent: Agent) -> Agent:
        """What failed is tried again after a while, though nobody asks."""
        applied = self._revision(agent.memory)
        news = rounds.is_news(said(agent.told), said(READY))
        return agent._replace(applied=applied, call=(READY, applied) if news else ())

    def _save(self, copy: Copy, disk: int) -> int:
        record = copy.record()
        before = Copy.empty(DEPLOYMENT) if disk < 0 or record.whole else self._parts.copies[disk]
        view = before.view.after(record.revision, record.rows)
        if (view.revision, held(view)) != (copy.view.revision, held(copy.view)):
            raise Wrong(f"the disk holds {shown(view)}, the memory {shown(copy.view)}")
        return self._parts.copies.number(Copy(view, {}))

    def _restarted(self, agent: Agent) -> Agent:
        """Its process ends, and the next one brings in force what is on the disk."""
        fresh = self.born(agent.host, agent.life)._replace(disk=agent.disk, backup=agent.backup)
        if agent.disk < 0:
            return fresh
        return fresh._replace(memory=agent.disk, applied=self._revision(agent.disk))

    def wrote(self, number: int, what: str, *how: Any, exact: bool = False) -> int:
        """What a call of Base's leads to.

        exact: with the revisions that agents say are in force; else without, for each beat says
        that anew.

        :raises Wrong: when that is not as it always has to be.
        """
        base = self._parts.bases[number]
        try:
            later = _report(base, *how) if what == "report" else getattr(base, what)(*how)
        except Removed:
            return GONE
        check_base(base, later)
        return self._parts.bases.number(later if exact else later.vague())

    def _revision(self, copy: int) -> int:
        return self._parts.copies[copy].view.revision


def owed(agent: Agent) -> set[str]:
    """Of its next round: the last one failed, or it is the first."""
    return {SYNC, REPORT} if agent.retry else set()


def gone(agent: Agent) -> Agent:
    """It heard that it was removed, and took everything down."""
    return Agent(agent.host, -abs(agent.life))


def told(agent: Agent) -> Agent:
    """Its report was answered."""
    state, _applied = agent.call
    return agent._replace(call=(), told=state, retry=False, left=False, misheard=False)


def said(state: str) -> rounds.Said | None:
    """As the product keeps it."""
    return (lifecycle.State(state), "") if state else None


def _report(base: Base, host: str, who: str, state: str, applied: int) -> Base:
    check_report(base, applied)
    report = AgentReport(service=SERVICE, state=state, applied_revision=applied)
    return base.report(host, who, report)
