# SPDX-License-Identifier: Apache-2.0
"""Fresh observations: ask all agents to look, and wait until they have, for a while."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cnsmo.model.lifecycle import GONE

if TYPE_CHECKING:
    from cnsmo.bus.clients import OperatorClient
    from cnsmo.model.messages import AgentStatus, HostStatus

PATIENCE = 3.0
"""Seconds to wait for agents that do not answer, by default."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 0.4
"""Seconds between two questions: observations come without an event."""


def observed(
    client: OperatorClient, deployment: str, patience: float = PATIENCE
) -> list[HostStatus]:
    """All hosts, with observations made from now on where the agents answer within patience.

    patience: seconds; 0: take what is there already.
    """
    if patience <= 0:
        return client.host_list(deployment)
    client.look(deployment)
    asked = time.monotonic()
    pause = FIRST_PAUSE
    while True:
        elapsed = time.monotonic() - asked
        hosts = client.host_list(deployment)
        agents = [agent for host in hosts for agent in host.agents if agent.state not in GONE]
        if elapsed >= patience or all(_since(agent, elapsed) for agent in agents):
            return hosts
        time.sleep(pause)
        pause = min(pause * 1.5, LONGEST_PAUSE)


def _since(agent: AgentStatus, elapsed: float) -> bool:
    """Whether the agent observed within the last seconds; an age is by one clock, the core's."""
    return agent.observed_age is not None and agent.observed_age < elapsed
