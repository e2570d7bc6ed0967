# SPDX-License-Identifier: Apache-2.0
"""What is shown of a host: where it is reached, how its agents stand, whom it hears."""

from __future__ import annotations

import dataclasses
import datetime
from typing import TYPE_CHECKING, Any

from cnsmo.manage.cells import NONE, Cell, Moment, age, local_time
from cnsmo.manage.style import Style

if TYPE_CHECKING:
    from cnsmo.bus.clients import OperatorClient
    from cnsmo.model.messages import AgentStatus, HostStatus


def addresses(client: OperatorClient, deployment: str) -> dict[str, dict[str, list[str]]]:
    """The addresses that the deployment's services gave to its hosts: host -> instance -> them."""
    found: dict[str, dict[str, list[str]]] = {}
    for row in client.service_list(deployment):
        for host, member in client.member_list(deployment, row.kind, row.name).items():
            given = member.body.get("addresses")
            if given:
                found.setdefault(host, {})[row.name] = list(given)
    return found


def agent_of(host: HostStatus, service: str) -> AgentStatus | None:
    """The host's agent of a service."""
    return next((agent for agent in host.agents if agent.service == service), None)


def seen(agent: AgentStatus | None, unit: str) -> dict[str, Any] | None:
    """What it told of a unit; None: nothing."""
    found = (agent.observation or {}).get(unit) if agent else None
    return found if isinstance(found, dict) else None


def endpoint(host: HostStatus) -> str:
    """Where other sites reach a host; behind NAT nobody does, so its own address says so."""
    private = [text.partition("/")[0] for text in host.facts.private]
    if host.facts.behind_nat:
        return f"{private[0] if private else '?'} (NAT)"
    return next(iter([*host.facts.public, *private]), "")


class Addresses(Cell):
    """Addresses by VPN; the VPN's name is left out where it is the only one."""

    def human_readable(self) -> str:
        if len(self._value) == 1:
            return ", ".join(next(iter(self._value.values())))
        lines = [f"{name} {', '.join(given)}" for name, given in sorted(self._value.items())]
        return "\n".join(lines) or "-"


class Certificate(Cell):
    """Until when a host's certificate counts; for people also what to do when it does not."""

    def __init__(self, until: datetime.datetime | None, now: datetime.datetime) -> None:
        super().__init__(until)
        self._now = now

    def human_readable(self) -> str:
        if self._value is None:
            return NONE
        if self._value > self._now:
            return f"until {local_time(self._value)}"
        return (
            f"ended {age((self._now - self._value).total_seconds())} ago: the host was off for too "
            "long, and returns with a fresh token ('cnsmo-manage token create')"
        )

    def machine_readable(self) -> Any:
        return Moment(self._value).machine_readable()


class States(Cell):
    """States by service; one word where all are in the same. People see who is late, and who is in
    quarantine.
    """

    def __init__(self, agents: list[AgentStatus], style: Style, quarantined: bool = False) -> None:
        super().__init__({agent.service: str(agent.state) for agent in agents})
        self._style = style
        self._late = any(agent.late for agent in agents)
        self._quarantined = quarantined

    def human_readable(self) -> str:
        states = set(self._value.values())
        if len(states) == 1:
            lines = [self._style.state(states.pop())]
        else:
            lines = [f"{name} {self._style.state(state)}" for name, state in self._value.items()]
        lines += [self._style.state("late")] * self._late
        return "\n".join([*lines, *["in quarantine"] * self._quarantined]) or "-"


@dataclasses.dataclass(frozen=True)
class Heard:
    """How many of a host's VPN peers it has shaken hands with; ages in seconds, as of now.

    ``peers`` counts those of drivers that know of handshakes.
    """

    peers: int
    ages: tuple[float, ...]

    @classmethod
    def by(cls, host: HostStatus) -> Heard:
        """From the host's last observation, however old that is."""
        peers, ages = 0, []
        for agent in host.agents:
            for unit in (agent.observation or {}).values():
                for peer in (unit.get("peers") or {}).values() if isinstance(unit, dict) else ():
                    peers += "handshake_age" in peer
                    if peer.get("handshake_age") is not None:
                        ages.append(float(peer["handshake_age"]) + (agent.observed_age or 0.0))
        return cls(peers, tuple(sorted(ages)))


class Handshakes(Cell):
    """How many peers were heard, and how long ago the quietest of them."""

    def __init__(self, heard: Heard) -> None:
        ages = heard.ages
        newest, oldest = (round(ages[0], 1), round(ages[-1], 1)) if ages else (None, None)
        super().__init__(
            {"peers": heard.peers, "heard": len(ages), "newest": newest, "oldest": oldest}
        )

    def human_readable(self) -> str:
        value: dict[str, Any] = self._value
        if not value["peers"]:
            return "-"
        told = f"{value['heard']}/{value['peers']}"
        return f"{told}, {age(value['oldest'])} ago" if value["heard"] else told


def standing(agent: AgentStatus) -> str:
    """An agent's state in a line, with its reason, and whether it is late."""
    late = f", late: not heard for {age(agent.heartbeat_age)}" if agent.late else ""
    reason = f": {agent.reason}" if agent.reason else ""
    return f"{agent.service}: {agent.state}{late}{reason}"


def last_heard(host: HostStatus) -> float | None:
    """Seconds since the last heartbeat of the agent that has been silent for the longest."""
    known = [agent.heartbeat_age for agent in host.agents if agent.heartbeat_age is not None]
    return max(known, default=None)


def revision(host: HostStatus) -> int:
    """The revision that all its agents have applied."""
    return min((agent.applied_revision for agent in host.agents), default=0)
