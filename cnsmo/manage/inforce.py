# SPDX-License-Identifier: Apache-2.0
"""Waits until what was declared is in force on every host that is not down.

Events wake it. Agents that apply a revision without changing their state send no event, only a
heartbeat; so it also looks by itself, twice a second.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from cnsmo.model.lifecycle import GONE, SETTLED, State

if TYPE_CHECKING:
    from cnsmo.bus.clients import OperatorClient
    from cnsmo.bus.events import Watch
    from cnsmo.model.messages import AgentStatus, ProviderStatus

CLOUD = "the cloud"
"""Stands in a host's place; no host can be called so."""
PULSE = 0.5
"""Seconds between two looks when no event comes."""
BREATH = 0.1
"""Seconds in which events are gathered before the next look."""
SECOND_CHANCE = 5.0
"""Seconds that an agent in error gets to recover before it counts as failed."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """Where the agents stand with respect to a revision."""

    settled: tuple[AgentStatus, ...] = ()
    pending: tuple[AgentStatus, ...] = ()
    failed: tuple[AgentStatus, ...] = ()
    gone: tuple[AgentStatus, ...] = ()
    revision: int = 0

    @property
    def waited_for(self) -> int:
        """How many agents are waited for."""
        return len(self.settled) + len(self.pending) + len(self.failed)


def wait(
    client: OperatorClient,
    watch: Watch,
    deployment: str,
    revision: int,
    patience: float,
    show: Callable[[Picture], None],
) -> Picture:
    """Wait, for at most patience seconds; show is called with every new picture.

    :return: the last picture; nobody is pending in it when all have settled or failed.
    """
    began = time.monotonic()
    while True:
        picture = look(client, deployment, revision)
        show(picture)
        elapsed = time.monotonic() - began
        over = not picture.pending and (not picture.failed or elapsed >= SECOND_CHANCE)
        if over or elapsed >= patience:
            return picture
        if watch.next(min(PULSE, patience - elapsed)) is not None:
            _gather(watch)


def look(client: OperatorClient, deployment: str, revision: int) -> Picture:
    """One picture. An agent has settled when it knows all that was declared, and announced by all
    members of it, by the time of the look."""
    agents = [agent for host in client.host_list(deployment) for agent in host.agents]
    agents += [_as_agent(kept, revision) for kept in client.provider_list(deployment)]
    gone = tuple(agent for agent in agents if agent.state in GONE)
    failed = tuple(agent for agent in agents if agent.state is State.ERROR)
    living = [agent for agent in agents if agent not in gone and agent not in failed]
    if not [agent for agent in living if agent.state not in SETTLED]:
        revision = max(revision, _newest(client, deployment))
    settled = tuple(
        agent
        for agent in living
        if agent.state in SETTLED and (agent.applied_revision >= revision or agent.host == CLOUD)
    )
    pending = tuple(agent for agent in living if agent not in settled)
    return Picture(settled, pending, failed, gone, revision)


def _as_agent(kept: ProviderStatus, revision: int) -> AgentStatus:
    """What a core keeps in the cloud, as if an agent did."""
    from cnsmo.model.messages import AgentStatus

    return AgentStatus(
        host=CLOUD,
        service=f"{kept.service} {kept.instance}",
        state=kept.state if kept.current else State.CONFIGURING,
        reason=kept.reason,
        since=kept.since,
        applied_revision=revision if kept.current else 0,
    )


def why(agent: AgentStatus, revision: int) -> str:
    """What keeps an agent, for people."""
    if agent.reason:
        return agent.reason
    if agent.applied_revision < revision:
        return f"is at revision {agent.applied_revision}, not yet at {revision}"
    return ""


def _newest(client: OperatorClient, deployment: str) -> int:
    """The revision of what was last declared, or announced by a member."""
    rows = client.service_list(deployment)
    revisions = [row.revision for row in rows]
    for row in rows:
        members = client.member_list(deployment, row.kind, row.name)
        revisions += [member.revision for member in members.values()]
    return max(revisions, default=0)


def _gather(watch: Watch) -> None:
    """Let the events that come together be one."""
    until = time.monotonic() + BREATH
    while watch.next(max(0.0, until - time.monotonic())) is not None:
        pass
