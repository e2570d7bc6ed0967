# SPDX-License-Identifier: Apache-2.0
"""Who calls: the agents' and the operators' side of every call, with its version history."""

from __future__ import annotations

import getpass
import socket
import time
from collections.abc import Iterator, Sequence
from typing import Any

import oslo_messaging
from oslo_config import cfg
from pydantic import BaseModel

from cnsmo import __version__
from cnsmo.bus import transport
from cnsmo.bus.calling import Caller, all_as, as_model
from cnsmo.bus.knock import PATIENCE, knock
from cnsmo.bus.parts import IN_PARTS, Parts
from cnsmo.model import messages as msg
from cnsmo.model.audit import AuditLine, AuditPage, AuditQuery
from cnsmo.model.host import CloudFacts
from cnsmo.model.parts import Part
from cnsmo.model.resource import Changes, Row


def author() -> str:
    """Who runs this program, as operators' writes tell it: NAME@MACHINE."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


class CoreClient(Caller):
    """What agents ask the core.

    Version history:

    * 1.0: join, sync, facts, announce, withdraw, report, heartbeat, leave.
    * 1.1: certify; hosts join over HTTPS instead.
    * 1.2: report and heartbeat say when they were made.
    * 1.3: sync_part.
    """

    TOPIC = transport.AGENTS_TOPIC
    VERSION = "1.3"
    SINCE = {"certify": "1.1", IN_PARTS: "1.3"}
    FIELDS = {"report": {"made_at": "1.2"}, "heartbeat": {"made_at": "1.2"}}

    def __init__(self, conf: cfg.ConfigOpts, timeout: float) -> None:
        """timeout in seconds. Until ``identify`` nothing is answered."""
        super().__init__(conf, {}, timeout)
        self._parts = Parts(self._versions, self.sync_part)

    def identify(self, ident: str, secret: str, url: str = "") -> None:
        """Say on every call from now on who calls.

        url: of the broker with an account of the host's own, see transport.agent_url(); with it
        come an exchange of its own, and no right to any other.
        """
        self.context = {"agent_id": ident, "agent_secret": secret}
        self._parts.forget()
        if url:
            self._use(url, transport.agent_topic(ident))

    def _said(self) -> dict[str, Any]:
        """Beside who calls: what helps to find out what may go wrong. A core decides nothing by it.

        A core that does not know these keys passes them over.
        """
        told = {"agent_clock": time.time(), "agent_rpc": self.VERSION}
        return {**self.context, **told, "agent_release": __version__}

    def knock(self, patience: float) -> None:
        """Find out over a new connection whether the broker can be reached.

        patience: seconds, at most.

        :raises Unavailable: when it cannot.
        """
        if not transport.is_in_process(self._conf, self._url):
            knock(self._conf, min(patience, PATIENCE), self._url)

    def certify(self, csr: str) -> msg.Certified:
        """Get a new certificate for the host's key."""
        return as_model(msg.Certified, self._call("certify", csr=csr))

    def sync(self, since: int) -> Changes:
        """What changed after revision since; put together, where it comes in parts.

        Not for several threads at once.
        """
        told = self._parts.sync(since)
        return told if told is not None else as_model(Changes, self._call("sync", since=since))

    def sync_part(self, since: int, mark: dict[str, Any] | None) -> Part:
        """A part of that; mark: of the part before."""
        return as_model(Part, self._call(IN_PARTS, since=since, mark=mark))

    def facts(self, facts: BaseModel) -> None:
        """Tell the core where this host is to be found."""
        self._call("facts", facts=facts.model_dump(mode="json"))

    def announce(self, announcement: msg.Announcement) -> int:
        """Tell the others what they must know for one instance of a service.

        :return: the revision that holds it.
        """
        return int(self._call("announce", announcement=announcement.model_dump(mode="json")))

    def withdraw(self, service: str, instance: str) -> None:
        """Take an announcement back: this host has no part in that instance any more."""
        self._call("withdraw", service=service, instance=instance)

    def report(self, report: msg.AgentReport) -> None:
        """Say where an agent stands."""
        self._call("report", report=report.model_dump(mode="json"))

    def heartbeat(self, beat: msg.Heartbeat) -> msg.HeartbeatAnswer:
        """Give a sign of life, and learn what was missed."""
        return as_model(
            msg.HeartbeatAnswer, self._call("heartbeat", beat=beat.model_dump(mode="json"))
        )

    def leave(self) -> None:
        """Leave the deployment for good."""
        self._call("leave")


class OperatorClient(Caller):
    """What operators ask the core.

    Version history:

    * 1.0: deployments, tokens, plan, apply, hosts, services, renew, look.
    * 1.1: rows, from which programs compile what agents compile.
    * 1.2: adjust, plan_delete; service_delete refuses what others need.
    * 1.3: host_readmit, host_removals, host_quarantine, bus_audit.
    * 1.4: audit_list; adjust takes a patch, for several instances.
    * 1.5: host_remove revokes tokens, or keeps them; host_learn, provider_list.
    """

    TOPIC = transport.OPERATORS_TOPIC
    VERSION = "1.5"
    SINCE = {
        "rows": "1.1",
        "plan_delete": "1.2",
        "service_delete": "1.2",
        "host_readmit": "1.3",
        "host_removals": "1.3",
        "host_quarantine": "1.3",
        "bus_audit": "1.3",
        "audit_list": "1.4",
        "adjust": "1.4",
        "host_remove": "1.5",
        "host_learn": "1.5",
        "provider_list": "1.5",
    }

    def __init__(self, conf: cfg.ConfigOpts, timeout: float = 30.0) -> None:
        super().__init__(conf, {"author": author()}, timeout)

    def deployment_create(self, name: str) -> msg.DeploymentStatus:
        """Make an empty deployment."""
        return as_model(msg.DeploymentStatus, self._call("deployment_create", name=name))

    def deployment_list(self) -> list[msg.DeploymentStatus]:
        """All deployments."""
        return all_as(msg.DeploymentStatus, self._call("deployment_list"))

    def deployment_show(self, name: str) -> msg.DeploymentStatus:
        """One deployment."""
        return as_model(msg.DeploymentStatus, self._call("deployment_show", name=name))

    def deployment_delete(self, name: str) -> None:
        """Forget a deployment that has no hosts (any more)."""
        self._call("deployment_delete", name=name)

    def deployment_export(self, name: str) -> str:
        """The deployment's document, as it is in force."""
        return str(self._call("deployment_export", name=name))

    def token_create(self, deployment: str, request: msg.TokenRequest) -> msg.TokenStatus:
        """Make a join token."""
        return as_model(
            msg.TokenStatus,
            self._call(
                "token_create", deployment=deployment, request=request.model_dump(mode="json")
            ),
        )

    def token_list(self, deployment: str) -> list[msg.TokenStatus]:
        """All tokens of a deployment."""
        return all_as(msg.TokenStatus, self._call("token_list", deployment=deployment))

    def token_revoke(self, deployment: str, ident: str) -> None:
        """Make a token worthless."""
        self._call("token_revoke", deployment=deployment, ident=ident)

    def plan(self, document: str) -> msg.Plan:
        """What applying a document would change."""
        return as_model(msg.Plan, self._call("plan", document=document))

    def apply(self, document: str, base_revision: int | None = None) -> msg.Plan:
        """Apply a document, unless operators changed something after base_revision."""
        return as_model(
            msg.Plan, self._call("apply", document=document, base_revision=base_revision)
        )

    def host_list(self, deployment: str) -> list[msg.HostStatus]:
        """All hosts with their agents."""
        return all_as(msg.HostStatus, self._call("host_list", deployment=deployment))

    def host_remove(self, deployment: str, host: str, keep_tokens: bool = False) -> int:
        """Remove a host for good, and revoke the tokens by which it came, unless they are kept.

        :return: the revision that holds it.
        """
        done = self._call("host_remove", deployment=deployment, host=host, keep_tokens=keep_tokens)
        return int(done)

    def host_removals(self, deployment: str) -> list[msg.RemovedHost]:
        """All hosts that were removed, the newest last."""
        return all_as(msg.RemovedHost, self._call("host_removals", deployment=deployment))

    def host_quarantine(self, deployment: str, host: str, release: bool = False) -> int:
        """Take a host out of everything, or let it back; the revision that holds it."""
        return int(self._call("host_quarantine", deployment=deployment, host=host, release=release))

    def host_readmit(self, deployment: str, host: str, seconds: int) -> None:
        """For some time, let the next join of that name take the host's place."""
        self._call("host_readmit", deployment=deployment, host=host, seconds=seconds)

    def host_learn(self, deployment: str, host: str, facts: CloudFacts) -> int:
        """Note what a cloud says of a host; the revision that holds it."""
        said = facts.model_dump(mode="json")
        return int(self._call("host_learn", deployment=deployment, host=host, facts=said))

    def service_list(self, deployment: str) -> list[Row]:
        """All declared instances of services."""
        return all_as(Row, self._call("service_list", deployment=deployment))

    def provider_list(self, deployment: str) -> list[msg.ProviderStatus]:
        """What cores keep in the cloud for the deployment's instances."""
        return all_as(msg.ProviderStatus, self._call("provider_list", deployment=deployment))

    def member_list(self, deployment: str, service: str, instance: str) -> dict[str, Row]:
        """What hosts announced to an instance, by host."""
        found = self._call("member_list", deployment=deployment, service=service, instance=instance)
        return {host: as_model(Row, row) for host, row in found.items()}

    def service_delete(self, deployment: str, service: str, instance: str) -> int:
        """Remove a declared instance; the revision that holds it."""
        return int(
            self._call("service_delete", deployment=deployment, service=service, instance=instance)
        )

    def adjust(
        self,
        deployment: str,
        service: str,
        instances: Sequence[str],
        host: str,
        patch: dict[str, Any],
    ) -> int:
        """Say something of one host in some instances; the revision that holds it.

        patch: null takes back what was said under a key; what is left out stays.
        """
        return int(
            self._call(
                "adjust", deployment=deployment, service=service, instances=list(instances),
                host=host, patch=patch,
            )
        )  # fmt: skip

    def plan_delete(self, deployment: str, service: str, instance: str) -> msg.Plan:
        """What removing a declared instance comes to."""
        return as_model(
            msg.Plan,
            self._call("plan_delete", deployment=deployment, service=service, instance=instance),
        )

    def renew(self, deployment: str, service: str, instance: str) -> int:
        """Ask all members of an instance for new keys; the revision that holds it."""
        return int(self._call("renew", deployment=deployment, service=service, instance=instance))

    def audit_list(self, deployment: str, query: AuditQuery) -> Iterator[AuditLine]:
        """Lines of a deployment's audit, the newest first; fetched page by page."""
        left = query.limit
        while left > 0:
            asked = query.model_copy(update={"limit": left}).model_dump(mode="json")
            page = as_model(AuditPage, self._call("audit_list", deployment=deployment, query=asked))
            yield from page.lines
            left -= len(page.lines)
            if not page.more or not page.lines:
                return
            query = query.model_copy(update={"below": page.lines[-1].number})

    def rows(self, deployment: str) -> Changes:
        """All live rows that desired state is compiled from: hosts, agents, instances, members."""
        return as_model(Changes, self._call("rows", deployment=deployment))

    def look(self, deployment: str) -> None:
        """Ask all agents for fresh observations."""
        self._call("look", deployment=deployment)

    def bus_audit(self, fix: bool = False) -> list[msg.BusFinding]:
        """Where the broker differs from what it should be; fix: put it right, too."""
        return all_as(msg.BusFinding, self._call("bus_audit", fix=fix))


class AgentClient:
    """What the core says to agents: hints, never orders.

    Version history:

    * 1.0: hint.
    """

    VERSION = "1.0"

    def __init__(self, conf: cfg.ConfigOpts, url: str = "") -> None:
        """url: of the broker, with the account that may hint; empty: ``[bus] url``."""
        target = oslo_messaging.Target(version=self.VERSION, fanout=True)
        self._rpc = oslo_messaging.get_rpc_client(transport.calls(conf, url), target, retry=0)

    def hint(self, ident: str, head: int) -> None:
        """Tell all agent processes of a host that the deployment is at revision head."""
        topic, exchange = transport.agent_topic(ident), transport.hints_exchange(ident)
        self._rpc.prepare(topic=topic, exchange=exchange).cast({}, "hint", head=head)
