# SPDX-License-Identifier: Apache-2.0
"""What the core answers: one class for agents, one for operators, on separate topics.

Every method of AgentEndpoints takes who calls from the proven secret in the context.
"""

from __future__ import annotations

import functools
from typing import Any

import oslo_messaging

from cnsmo.bus.clients import CoreClient, OperatorClient
from cnsmo.bus.envelope import Endpoints, answers
from cnsmo.core import counting
from cnsmo.core.call_limits import CallLimits
from cnsmo.core.context import Core
from cnsmo.core.declare import Declare
from cnsmo.core.inspect import Inspect
from cnsmo.core.membership import Membership
from cnsmo.model import messages as msg
from cnsmo.model.audit import Act, AuditPage, AuditQuery
from cnsmo.model.errors import Conflict, Denied, InvalidRequest
from cnsmo.model.host import CloudFacts
from cnsmo.model.names import check_label, printable
from cnsmo.model.parts import Asked, Part
from cnsmo.model.resource import OPERATOR, Changes, Row
from cnsmo.state import tokens
from cnsmo.state.identities import Identity
from cnsmo.state.secrets import is_word
from cnsmo.state.writer import Writer

Context = dict[str, Any]
MAX_READMIT = 30 * 86400
MAX_AUTHOR = 190
"""Characters of the name that a program tells of its operator."""


class AgentEndpoints(Endpoints):
    """Version history: see bus.clients.CoreClient."""

    target = oslo_messaging.Target(version=CoreClient.VERSION)

    def __init__(self, core: Core) -> None:
        self._core = core
        self._membership = Membership(core)
        self._limits = CallLimits()

    def _answered(self, call: str, outcome: str, seconds: float) -> None:
        """Count it."""
        self._core.counting.call(counting.AGENTS, call, outcome, seconds)

    @answers
    def certify(self, ctxt: Context, csr: str) -> msg.Certified:
        """See Membership.certify."""
        return self._membership.certify(
            self._who(ctxt, "certify"), msg.CertificateRequest(csr=csr).csr
        )

    @answers
    def sync(self, ctxt: Context, since: int) -> Changes:
        """See Membership.sync."""
        return self._membership.sync(self._who(ctxt, "sync"), since)

    @answers
    def sync_part(self, ctxt: Context, since: int, mark: dict[str, Any] | None) -> Part:
        """See Store.part."""
        who = self._who(ctxt, "sync_part")
        asked = Asked.model_validate({"since": since, "mark": mark}, strict=True)
        return self._core.store.part(who.deployment, asked.since, asked.mark)

    @answers
    def facts(self, ctxt: Context, facts: dict[str, Any]) -> None:
        """See Membership.facts."""
        self._membership.facts(
            self._who(ctxt, "facts"), msg.Facts.model_validate({"facts": facts}).facts
        )

    @answers
    def announce(self, ctxt: Context, announcement: dict[str, Any]) -> int:
        """See Membership.announce."""
        who = self._who(ctxt, "announce")
        return self._membership.announce(who, msg.Announcement.model_validate(announcement))

    @answers
    def withdraw(self, ctxt: Context, service: str, instance: str) -> None:
        """See Membership.withdraw."""
        who, named = self._who(ctxt, "withdraw"), msg.Instance(service=service, instance=instance)
        self._membership.withdraw(who, named.service, named.instance)

    @answers
    def report(self, ctxt: Context, report: dict[str, Any]) -> None:
        """See Membership.report."""
        self._membership.report(self._who(ctxt, "report"), msg.AgentReport.model_validate(report))

    @answers
    def heartbeat(self, ctxt: Context, beat: dict[str, Any]) -> msg.HeartbeatAnswer:
        """See Membership.heartbeat."""
        return self._membership.heartbeat(
            self._who(ctxt, "heartbeat"), msg.Heartbeat.model_validate(beat)
        )

    @answers
    def leave(self, ctxt: Context) -> None:
        """See Membership.leave."""
        self._membership.leave(self._who(ctxt, "leave"))

    def _who(self, ctxt: Context, call: str) -> Identity:
        """Who calls, unless it calls too often."""
        ident, secret = ctxt.get("agent_id"), ctxt.get("agent_secret")
        if not is_word(ident) or not is_word(secret):
            raise Denied()
        who = self._core.identities.authenticate(ident, secret)
        self._limits.take(call, who.id)
        self._core.sightings.note(who, ctxt)
        return who


class OperatorEndpoints(Endpoints):
    """Version history: see bus.clients.OperatorClient."""

    target = oslo_messaging.Target(version=OperatorClient.VERSION)

    def __init__(self, core: Core) -> None:
        self._core = core
        self._declare = Declare(core)
        self._inspect = Inspect(core)
        self._membership = Membership(core)

    def _answered(self, call: str, outcome: str, seconds: float) -> None:
        """Count it."""
        self._core.counting.call(counting.OPERATORS, call, outcome, seconds)

    @answers
    def deployment_create(self, ctxt: Context, name: str) -> msg.DeploymentStatus:
        """Make an empty deployment."""
        try:
            check_label(name)
        except ValueError as exc:
            raise InvalidRequest(str(exc)) from exc
        done = self._core.store.create(name, _act(ctxt, "deployment create"))
        self._core.audited(name, done.lines)
        return self._inspect.deployment(name)

    @answers
    def deployment_list(self, ctxt: Context) -> list[msg.DeploymentStatus]:
        """All deployments."""
        return self._inspect.deployments()

    @answers
    def deployment_show(self, ctxt: Context, name: str) -> msg.DeploymentStatus:
        """One deployment."""
        return self._inspect.deployment(name)

    @answers
    def deployment_delete(self, ctxt: Context, name: str) -> None:
        """Forget a deployment that has no hosts any more."""
        hosts = sorted(self._core.identities.living(name))
        if hosts:
            raise Conflict(
                f"deployment {name!r} still has {len(hosts)} hosts ({', '.join(hosts[:5])}"
                f"{', ...' if len(hosts) > 5 else ''}), which would be left with their services "
                "running: remove them first ('cnsmo-manage host remove')"
            )
        kept = [f"{one.service} {one.instance}" for one in self._inspect.providers(name)]
        if kept:
            raise Conflict(
                f"deployment {name!r} still has things in the cloud ({', '.join(kept)}): delete "
                "these services first ('cnsmo-manage service delete'), until 'service list' is "
                "without them"
            )
        done = self._core.store.delete(name, _act(ctxt, "deployment delete"))
        self._core.audited(name, done.lines)

    @answers
    def deployment_export(self, ctxt: Context, name: str) -> str:
        """The document in force."""
        return self._declare.export(name)

    @answers
    def token_create(
        self, ctxt: Context, deployment: str, request: dict[str, Any]
    ) -> msg.TokenStatus:
        """Make a join token."""
        wanted = msg.TokenRequest.model_validate(request)

        def work(writer: Writer) -> msg.TokenStatus:
            self._core.naming.refuse_token(writer, wanted)
            return tokens.create(writer, wanted)

        return self._core.write(deployment, _act(ctxt, "token create"), work).value

    @answers
    def token_list(self, ctxt: Context, deployment: str) -> list[msg.TokenStatus]:
        """All tokens."""
        return self._core.tokens.list(deployment)

    @answers
    def token_revoke(self, ctxt: Context, deployment: str, ident: str) -> None:
        """Make a token worthless."""
        act = _act(ctxt, "token revoke")
        self._core.write(deployment, act, functools.partial(tokens.revoke, ident=ident))

    @answers
    def plan(self, ctxt: Context, document: str) -> msg.Plan:
        """See Declare.plan."""
        return self._declare.plan(document)

    @answers
    def apply(self, ctxt: Context, document: str, base_revision: int | None) -> msg.Plan:
        """See Declare.apply."""
        return self._declare.apply(document, _act(ctxt, "apply"), base_revision)

    @answers
    def host_list(self, ctxt: Context, deployment: str) -> list[msg.HostStatus]:
        """All hosts with their agents."""
        return self._inspect.hosts(deployment)

    @answers
    def host_removals(self, ctxt: Context, deployment: str) -> list[msg.RemovedHost]:
        """All hosts that were removed."""
        return self._inspect.removals(deployment)

    @answers
    def host_remove(
        self, ctxt: Context, deployment: str, host: str, keep_tokens: bool = False
    ) -> int:
        """See Membership.remove."""
        if type(keep_tokens) is not bool:
            raise InvalidRequest("keep_tokens: true or false")
        return self._membership.remove(deployment, host, _act(ctxt, "host remove"), keep_tokens)

    @answers
    def host_quarantine(self, ctxt: Context, deployment: str, host: str, release: bool) -> int:
        """See Membership.quarantine."""
        if type(release) is not bool:
            raise InvalidRequest("release: true or false")
        return self._membership.quarantine(
            deployment, host, _act(ctxt, "host release" if release else "host quarantine"), release
        )

    @answers
    def host_readmit(self, ctxt: Context, deployment: str, host: str, seconds: int) -> None:
        """See Membership.readmit."""
        if type(seconds) is not int or not 1 <= seconds <= MAX_READMIT:
            raise InvalidRequest(f"seconds: from 1 to {MAX_READMIT}")
        self._membership.readmit(deployment, host, _act(ctxt, "host readmit"), seconds)

    @answers
    def host_learn(self, ctxt: Context, deployment: str, host: str, facts: dict[str, Any]) -> int:
        """See Membership.learn."""
        said = CloudFacts.model_validate(facts)
        return self._membership.learn(deployment, host, said, _act(ctxt, "cloud sync"))

    @answers
    def service_list(self, ctxt: Context, deployment: str) -> list[Row]:
        """All declared instances."""
        return self._inspect.instances(deployment)

    @answers
    def provider_list(self, ctxt: Context, deployment: str) -> list[msg.ProviderStatus]:
        """What cores keep in the cloud."""
        return self._inspect.providers(deployment)

    @answers
    def member_list(
        self, ctxt: Context, deployment: str, service: str, instance: str
    ) -> dict[str, Row]:
        """What hosts announced to an instance."""
        return self._inspect.members(deployment, service, instance)

    @answers
    def service_delete(self, ctxt: Context, deployment: str, service: str, instance: str) -> int:
        """See Declare.delete."""
        return self._declare.delete(deployment, service, instance, _act(ctxt, "service delete"))

    @answers
    def plan_delete(self, ctxt: Context, deployment: str, service: str, instance: str) -> msg.Plan:
        """See Declare.plan_delete."""
        return self._declare.plan_delete(deployment, service, instance)

    @answers
    def renew(self, ctxt: Context, deployment: str, service: str, instance: str) -> int:
        """See Declare.renew."""
        return self._declare.renew(deployment, service, instance, _act(ctxt, "renew"))

    @answers
    def adjust(
        self, ctxt: Context, deployment: str, service: str, instances: list[str], host: str,
        patch: dict[str, Any],
    ) -> int:  # fmt: skip
        """See Declare.adjust."""
        act = _act(ctxt, "adjust")
        return self._declare.adjust(deployment, service, instances, host, patch, act)

    @answers
    def rows(self, ctxt: Context, deployment: str) -> Changes:
        """All live rows that desired state is compiled from."""
        return self._inspect.rows(deployment)

    @answers
    def audit_list(self, ctxt: Context, deployment: str, query: dict[str, Any]) -> AuditPage:
        """See AuditTrail.page."""
        return self._core.trail.page(deployment, AuditQuery.model_validate(query))

    @answers
    def look(self, ctxt: Context, deployment: str) -> None:
        """Ask all agents for fresh observations."""
        self._inspect.look(deployment)

    @answers
    def bus_audit(self, ctxt: Context, fix: bool) -> list[msg.BusFinding]:
        """Where the broker differs from what it should be."""
        return self._core.bouncer.audit(fix)


def _act(ctxt: Context, action: str) -> Act:
    author = printable(str(ctxt.get("author", "")))[:MAX_AUTHOR]
    return Act.of_operator(author or OPERATOR, action)
