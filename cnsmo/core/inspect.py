# SPDX-License-Identifier: Apache-2.0
"""What operators look at: deployments, hosts, agents, declared instances."""

from __future__ import annotations

import dataclasses

from cnsmo.core.context import Core
from cnsmo.core.declare import kinds
from cnsmo.model import messages as msg
from cnsmo.model.host import Host, HostFacts
from cnsmo.model.lifecycle import WORKING, State
from cnsmo.model.resource import AGENT, HOST, Changes, Row, View
from cnsmo.services import registry
from cnsmo.services.provider import provider_kind
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
            suspected_since=found.suspected_since,
        )

    def hosts(self, deployment: str) -> list[msg.HostStatus]:
        """All hosts with their agents, by name."""
        view = self._core.store.view(deployment)
        agents = self._agents(deployment, view)
        standing = self._core.identities.standing(deployment)
        return [
            _host(host, agents.get(host.name, []), standing.get(host.name))
            for host in view.everybody.values()
        ]

    def _agents(self, deployment: str, view: View) -> dict[str, list[msg.AgentStatus]]:
        """All agents, by host."""
        core = self._core
        signs = core.liveness.signs(deployment)
        behind = core.liveness.behind(deployment, core.alive_within, core.patience)
        found: dict[str, list[msg.AgentStatus]] = {}
        for row in view.rows(AGENT):
            host, _slash, service = row.name.partition("/")
            sign = signs.get((host, service))
            status = _agent(host, service, row, sign, core.rules.late_after)
            if (host, service) in behind and status.state in WORKING:
                told = core.told_behind(behind[host, service])
                reason = "; ".join(filter(None, (told, status.reason)))
                status = status.model_copy(update={"state": State.DEGRADED, "reason": reason})
            found.setdefault(host, []).append(status)
        return found

    def removals(self, deployment: str) -> list[msg.RemovedHost]:
        """All hosts that were removed, the newest last.

        :raises NotFound: when there is no such deployment.
        """
        self._core.store.deployment(deployment)
        found = self._core.removals.of(deployment)
        return [msg.RemovedHost(**dataclasses.asdict(removal)) for removal in found]

    def instances(self, deployment: str) -> list[Row]:
        """All declared instances of all services."""
        view = self._core.store.view(deployment, kinds=list(registry.services()))
        return [row for service in registry.services() for row in view.rows(service)]

    def providers(self, deployment: str) -> list[msg.ProviderStatus]:
        """All that provider drivers keep; and shall keep, where a core has not begun yet."""
        services = list(registry.services())
        kinds = [*services, *map(provider_kind, services)]
        view = self._core.store.view(deployment, kinds=kinds)
        found = []
        for service in services:
            wanted = {row.name: row for row in view.rows(service)}
            kept = {row.name: row for row in view.rows(provider_kind(service))}
            for name, row in wanted.items():
                if name not in kept and registry.is_provided(service, row.body.get("driver", "")):
                    found.append(_begins(row))
            found += [_provider(service, row, wanted.get(name)) for name, row in kept.items()]
        return found

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


def _host(host: Host, agents: list[msg.AgentStatus], standing: Standing | None) -> msg.HostStatus:
    facts = host.model_dump(include=set(HostFacts.model_fields))
    return msg.HostStatus(
        name=host.name,
        id=host.id,
        groups=sorted(host.groups),
        quarantined=host.quarantined,
        bounds=list(host.bounds),
        disputed=host.disputed,
        facts=HostFacts(**facts),
        agents=agents,
        **(dataclasses.asdict(standing) if standing else {}),
    )


def _agent(
    host: str, service: str, row: Row, sign: Sign | None, late_after: float
) -> msg.AgentStatus:
    return msg.AgentStatus(
        host=host,
        service=service,
        state=State(row.body["state"]),
        reason=row.body["reason"],
        since=row.updated_at,
        applied_revision=sign.applied_revision if sign else 0,
        heartbeat_age=sign.silent if sign else None,
        observation=sign.observation if sign else None,
        observed_age=sign.observed if sign else None,
        late=sign is not None and sign.silent >= late_after and not row.gone,
    )


def _begins(declared: Row) -> msg.ProviderStatus:
    return msg.ProviderStatus(
        service=declared.kind,
        instance=declared.name,
        driver=declared.body["driver"],
        state=State.JOINING,
        current=False,
        since=declared.updated_at,
    )


def _provider(service: str, row: Row, declared: Row | None) -> msg.ProviderStatus:
    return msg.ProviderStatus(
        service=service,
        instance=row.name,
        driver=row.body["driver"],
        state=State(row.body["state"]),
        reason=row.body["reason"],
        current=declared is not None and row.body["declared"] >= declared.revision,
        since=row.updated_at,
        detail=row.body["detail"],
    )
