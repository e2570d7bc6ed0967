# SPDX-License-Identifier: Apache-2.0
"""Hosts come, tell about themselves, report, and go."""

from __future__ import annotations

import datetime
from typing import Any

from oslo_log import log
from pydantic import ValidationError

from cnsmo.core.admission import Admission
from cnsmo.core.context import Core
from cnsmo.model import messages as msg
from cnsmo.model.audit import Act, Role
from cnsmo.model.errors import InvalidRequest, NotAdmitted, NotFound, Removed
from cnsmo.model.host import HostFacts
from cnsmo.model.lifecycle import WORKING, State, may_follow
from cnsmo.model.observation import bounded, sound
from cnsmo.model.reading import read
from cnsmo.model.resource import (
    AGENT,
    CORE,
    HOST,
    Changes,
    Row,
    adjustment_kind,
    joined,
    member_kind,
)
from cnsmo.model.wording import in_words
from cnsmo.services import registry
from cnsmo.services.base import Refused
from cnsmo.state import identities, liveness
from cnsmo.state.identities import Identity
from cnsmo.state.writer import Writer
from cnsmo.trust import keys

LOG = log.getLogger(__name__)
MAX_REVISION = 2**63 - 1
QUARANTINED = "quarantined"


class Membership:
    """The use cases of agents. ``who`` is always who proved to be calling, never an argument."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def join(self, request: msg.JoinRequest, source: str = "") -> msg.JoinAnswer:
        """Take a host in; a repetition of the same join gets the same identity.

        source: the address that it came from; empty: unknown, which no bound token takes.

        :raises Denied: when the token is not valid.
        :raises InvalidRequest: when the request for a certificate is none.
        :raises Conflict: when a living host with another key bears that name.
        """
        deployment = self._core.tokens.deployment_of(request.token)
        key = keys.requested_key(request.csr, request.nonce)
        admission = Admission(self._core.conf, self._core.broker)

        def work(writer: Writer) -> msg.JoinAnswer:
            issued, groups = admission.admit(writer, request, key, source)
            certified = admission.certify(writer, issued.id, request.host, key)
            if groups is None:
                row = writer.get(HOST, request.host)
                groups = list(row.body["groups"]) if row else []
            _put_host(writer, request.host, issued.id, groups, request.facts)
            for service in set(request.services) & set(registry.services()):
                self._core.liveness.observed(
                    writer.connection, writer.deployment_id, request.host, service, 0, False, None
                )
                transition(writer, request.host, service, State.JOINING, "", issued.id)
            return msg.JoinAnswer(
                id=issued.id,
                secret=issued.secret,
                deployment=deployment,
                host=request.host,
                groups=groups,
                certified=certified,
            )

        act = Act(Role.HOST, request.host, source, "join")
        answer = self._core.write(deployment, act, work).value
        # A broker that is away is an error: who asks again has the same identity, and its account.
        answer.bus_url = self._core.broker.admit(answer.id)
        LOG.info("deployment=%s host=%s id=%s joined", deployment, answer.host, answer.id)
        return answer

    def certify(self, who: Identity, csr: str) -> msg.Certified:
        """Renew a host's certificate; its request is bound to its id.

        :raises Conflict: when the request is by another key.
        """
        key = keys.requested_key(csr, who.id)
        admission = Admission(self._core.conf, self._core.broker)

        def work(writer: Writer) -> msg.Certified:
            _present(writer, who)
            return admission.certify(writer, who.id, who.host, key)

        certified = self._core.write(who.deployment, _act(who, "certify"), work).value
        LOG.info("deployment=%s host=%s id=%s certified anew", who.deployment, who.host, who.id)
        return certified

    def readmit(self, deployment: str, host: str, act: Act, seconds: float) -> None:
        """Let the next join of that name take the host's place with another key.

        :raises NotFound: when there is no such host.
        """
        until = datetime.timedelta(seconds=seconds)
        self._core.write(deployment, act, lambda writer: identities.readmit(writer, host, until))
        LOG.info("deployment=%s host=%s author=%s may be replaced", deployment, host, act.author)

    def sync(self, who: Identity, since: int) -> Changes:
        """What changed after revision since."""
        if type(since) is not int or not 0 <= since <= MAX_REVISION:
            raise InvalidRequest("sync: since is a revision, 0 or more")
        return self._core.store.changes(who.deployment, since)

    def facts(self, who: Identity, facts: HostFacts) -> None:
        """Note where a host is to be found; its groups stay what the token granted."""

        def work(writer: Writer) -> None:
            row = _present(writer, who)
            _put_host(writer, who.host, who.id, row.body["groups"], facts)

        self._core.write(who.deployment, _act(who, "facts"), work)

    def announce(self, who: Identity, announcement: msg.Announcement) -> int:
        """Admit a host to an instance of a service, or take its new announcement.

        :return: the revision that holds it.
        :raises NotAdmitted: when the service does not take the host in, with the reason.
        """
        service = registry.service(announcement.service)
        kind = member_kind(service.name)
        if service.Announcement is None:
            raise InvalidRequest(f"hosts announce nothing to the service {service.name}")
        try:
            announced = service.Announcement.model_validate(announcement.body)
        except ValidationError as exc:
            raise InvalidRequest(f"announcement to {service.name}: {in_words(exc)}") from exc

        def work(writer: Writer) -> None:
            _present(writer, who)
            view = writer.view([HOST, service.name, kind])
            spec = view.get(service.name, announcement.instance)
            host = view.everybody.get(who.host)
            if host is not None and host.quarantined:
                raise NotAdmitted(f"{who.host} is in quarantine")
            if spec is None or host is None:
                raise NotFound(f"{service.name} {announcement.instance} is not declared (any more)")
            if not service.concerns(announcement.instance, read(service.Spec, spec.body), host):
                raise NotAdmitted(
                    f"{who.host} is not a member of {service.name} {announcement.instance}"
                )
            try:
                body = service.admit(view, announcement.instance, who.host, announced)
            except Refused as exc:
                raise NotAdmitted(str(exc)) from exc
            writer.put(kind, joined(announcement.instance, who.host), body, owner=who.id)

        return self._core.write(who.deployment, _act(who, "announce"), work).revision

    def withdraw(self, who: Identity, service: str, instance: str) -> None:
        """Take a host's announcement back."""
        kind = member_kind(registry.service(service).name)

        def work(writer: Writer) -> None:
            row = writer.get(kind, joined(instance, who.host))
            if row is not None and row.owner == who.id:
                writer.delete(kind, row.name)

        self._core.write(who.deployment, _act(who, "withdraw"), work)

    def report(self, who: Identity, report: msg.AgentReport) -> None:
        """Note where an agent stands; a transition is a row and an event.

        That always arrives: of an observation that is too large, only the rest is kept.
        """
        registry.service(report.service)
        if report.state in (State.JOINING, State.DOWN, State.LEFT):
            raise InvalidRequest(f"an agent does not report itself {report.state}")
        observation = bounded(sound(report.observation))
        if observation is not report.observation:
            LOG.warning(
                "deployment=%s host=%s service=%s: a part of the observation cannot be kept",
                who.deployment, who.host, report.service,
            )  # fmt: skip

        def work(writer: Writer) -> None:
            _present(writer, who)
            self._core.liveness.observed(
                writer.connection,
                who.deployment_id,
                who.host,
                report.service,
                report.applied_revision,
                report.state in WORKING,
                observation,
            )
            transition(writer, who.host, report.service, report.state, report.reason, who.id)

        self._core.write(who.deployment, _act(who, "report"), work)

    def heartbeat(self, who: Identity, beat: msg.Heartbeat) -> msg.HeartbeatAnswer:
        """Note a sign of life; tell the agent what it may have missed."""
        core = self._core
        forgotten = core.liveness.beat(who.deployment_id, who.host, beat.applied)
        forgotten += self._said_down(who, beat)
        head, looked = core.liveness.head(who.deployment_id)
        return msg.HeartbeatAnswer(
            head=head,
            confirmed=core.liveness.confirmed(who.deployment_id, core.alive_within),
            observe_at=looked,
            forgotten=sorted(set(forgotten)),
        )

    def _said_down(self, who: Identity, beat: msg.Heartbeat) -> list[str]:
        """Services whose agents were said to be down, but beat: they must report again."""
        return [
            service
            for service in beat.applied
            if self._core.store.state_of(who.deployment_id, AGENT, joined(who.host, service))
            in (None, State.DOWN)
        ]

    def leave(self, who: Identity) -> None:
        """A host leaves by itself."""
        self.remove(who.deployment, who.host, _act(who, "leave"), who=who)

    def remove(self, deployment: str, host: str, act: Act, who: Identity | None = None) -> int:
        """Remove a host: its secret, its rows, its place in every service.

        who: the host itself, where it asks.

        :return: the revision that holds it.
        :raises NotFound: when there is no such host.
        """

        def work(writer: Writer) -> str:
            if who is not None:
                _present(writer, who)
            row = writer.get(HOST, host)
            if not identities.revoke(writer, host) or row is None:
                raise _no_host(deployment, host)
            for service in registry.services():
                for kind in (member_kind(service), adjustment_kind(service)):
                    for part in writer.rows(kind):
                        if part.name.rpartition("/")[2] == host:
                            writer.delete(kind, part.name)
                writer.delete(AGENT, joined(host, service))
            writer.delete(HOST, host)
            liveness.forget(writer, host)
            return str(row.body["id"])

        done = self._core.write(deployment, act, work)
        self._core.hinter.part(done.value, done.revision)
        self._core.bouncer.expel(done.value)
        return done.revision

    def quarantine(self, deployment: str, host: str, act: Act, release: bool) -> int:
        """Take a host out of everything, or let it back: others drop it, itself is shut in.

        It keeps its place: its identity, its account, its addresses.

        :return: the revision that holds it.
        :raises NotFound: when there is no such host.
        """

        def work(writer: Writer) -> None:
            row = writer.get(HOST, host)
            if row is None:
                raise _no_host(deployment, host)
            body = {key: value for key, value in row.body.items() if key != QUARANTINED}
            writer.put(HOST, host, body if release else {**body, QUARANTINED: True}, owner=CORE)

        done = self._core.write(deployment, act, work)
        LOG.info(
            "deployment=%s host=%s author=%s quarantine=%s",
            deployment, host, act.author, not release,
        )  # fmt: skip
        return done.revision


def transition(
    writer: Writer, host: str, service: str, state: State, reason: str, owner: str
) -> None:
    """Write the row of an agent's state, when state or reason are new.

    :raises InvalidRequest: when the life cycle has no such edge.
    """
    name = joined(host, service)
    row = writer.get(AGENT, name)
    before = State(row.body["state"]) if row else State.JOINING
    if before != state and state is not State.JOINING and not may_follow(before, state):
        raise InvalidRequest(f"{name}: no way leads from {before} to {state}")
    writer.put(AGENT, name, {"state": state.value, "reason": reason}, owner)


def _present(writer: Writer, who: Identity) -> Row:
    """The row of the host that calls.

    :raises Removed: when it was removed while its call waited; another may have its name by now.
    """
    row = writer.get(HOST, who.host)
    if row is None or row.body["id"] != who.id:
        raise Removed(f"host {who.host!r} was removed from its deployment")
    return row


def _act(who: Identity, action: str) -> Act:
    """What a host does: over the bus, whose broker hides addresses, it comes from its id."""
    return Act(Role.HOST, who.host, who.id, action)


def _no_host(deployment: str, host: str) -> NotFound:
    return NotFound(
        f"deployment {deployment!r} has no host {host!r}; 'cnsmo-manage host list' shows all"
    )


def _put_host(writer: Writer, host: str, ident: str, groups: list[str], facts: HostFacts) -> None:
    """Write a host's row; whether it is in quarantine is not the host's to say."""
    row = writer.get(HOST, host)
    body: dict[str, Any] = {"id": ident, "groups": sorted(groups), **facts.model_dump(mode="json")}
    if row is not None and row.body.get(QUARANTINED):
        body[QUARANTINED] = True
    writer.put(HOST, host, body, owner=CORE)
