# SPDX-License-Identifier: Apache-2.0
"""What operators look at: deployments, hosts, agents, declared instances."""

from __future__ import annotations

import dataclasses
import datetime

from cnsmo.core.context import Core
from cnsmo.core.declare import kinds
from cnsmo.model import messages as msg
from cnsmo.model.host import Host, HostFacts
from cnsmo.model.lifecycle import State
from cnsmo.model.resource import AGENT, HOST, Changes, Row, View, joined
from cnsmo.services import registry
from cnsmo.state.engine import aware, utc_now
from cnsmo.state.identities import Standing
from cnsmo.state.liveness import Sign
from cnsmo.state.store import Deployment


class Inspect:
    """The use cases of operators that change nothing."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def deployments(self) -> list[msg.DeploymentStatus]:
        """All deployments."""
        return [self._status(found) for found in self._core.store.deployments()]

    def deployment(self, name: str) -> msg.DeploymentStatus:
        """One deployment.

        :raises NotFound: when there is none of that name.
        """
        return self._status(self._core.store.deployment(name))

    def _status(self, found: Deployment) -> msg.DeploymentStatus:
        view = self._core.store.view(found.name, kinds=[HOST, *registry.services()])
        return msg.DeploymentStatus(
            name=found.name,
            revision=found.revision,
            hosts=len(list(view.rows(HOST))),
            services=sum(len(list(view.rows(service))) for service in registry.services()),
            created_at=found.created_at,
        )

    def hosts(self, deployment: str) -> list[msg.HostStatus]:
        """All hosts with their agents, by name."""
        view = self._core.store.view(deployment)
        signs = self._core.liveness.signs(deployment)
        standing = self._core.identities.standing(deployment)
        return [self._host(view, signs, standing, host) for host in view.everybody.values()]

    def removals(self, deployment: str) -> list[msg.RemovedHost]:
        """All hosts that were removed, the newest last.

        :raises NotFound: when there is no such deployment.
        """
        self._core.store.deployment(deployment)
        found = self._core.removals.of(deployment)
        return [msg.RemovedHost(**dataclasses.asdict(removal)) for removal in found]

    def _host(
        self,
        view: View,
        signs: dict[tuple[str, str], Sign],
        standing: dict[str, Standing],
        host: Host,
    ) -> msg.HostStatus:
        agents = []
        for row in view.rows(AGENT):
            if row.name.startswith(joined(host.name, "")):
                service = row.name[len(joined(host.name, "")) :]
                agents.append(_agent(host.name, service, row, signs.get((host.name, service))))
        facts = host.model_dump(include=set(HostFacts.model_fields))
        return msg.HostStatus(
            name=host.name,
            id=host.id,
            groups=sorted(host.groups),
            quarantined=host.quarantined,
            facts=HostFacts(**facts),
            agents=agents,
            **(dataclasses.asdict(standing[host.name]) if host.name in standing else {}),
        )

    def instances(self, deployment: str) -> list[Row]:
        """All declared instances of all services."""
        view = self._core.store.view(deployment, kinds=list(registry.services()))
        return [row for service in registry.services() for row in view.rows(service)]

    def members(self, deployment: str, service: str, instance: str) -> dict[str, Row]:
        """What hosts announced to an instance, by host."""
        return self._core.store.view(deployment).places(service, instance)

    def rows(self, deployment: str) -> Changes:
        """All live rows that desired state is compiled from, so that others can compile it, too."""
        view = self._core.store.view(deployment, kinds=kinds())
        found = [row for kind in kinds() for row in view.rows(kind)]
        return Changes(deployment=deployment, head=view.revision, snapshot=True, rows=found)

    def look(self, deployment: str) -> None:
        """Ask all agents for fresh observations: they learn of it by hint or heartbeat."""
        found = self._core.store.deployment(deployment)
        self._core.liveness.look(deployment)
        self._core.hinter.notify(deployment, found.revision)


def _agent(host: str, service: str, row: Row, sign: Sign | None) -> msg.AgentStatus:
    now = aware(utc_now())
    return msg.AgentStatus(
        host=host,
        service=service,
        state=State(row.body["state"]),
        reason=row.body["reason"],
        since=row.updated_at,
        applied_revision=sign.applied_revision if sign else 0,
        heartbeat_age=_age(now, sign.heartbeat_at if sign else None),
        observation=sign.observation if sign else None,
        observed_age=_age(now, sign.observed_at if sign else None),
    )


def _age(now: datetime.datetime, moment: datetime.datetime | None) -> float | None:
    return None if moment is None else max(0.0, (now - moment).total_seconds())
