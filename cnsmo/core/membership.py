# SPDX-License-Identifier: Apache-2.0
"""Hosts come, tell about themselves, report, and go."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence

from oslo_log import log
from pydantic import ValidationError

from cnsmo.core.context import Core
from cnsmo.core.host_rows import (
    learn,
    must_report,
    no_host,
    present,
    put_host,
    reported,
    take_out,
    welcome,
    withdraw,
)
from cnsmo.core.verdict import hold
from cnsmo.model import messages as msg
from cnsmo.model.audit import Act, Role
from cnsmo.model.errors import Conflict, InvalidRequest, NotAdmitted, NotFound, Unavailable
from cnsmo.model.host import CloudFacts, HostFacts
from cnsmo.model.lifecycle import WORKING, State
from cnsmo.model.observation import bounded, sound
from cnsmo.model.reading import read
from cnsmo.model.resource import (
    AGENT,
    BOUNDS,
    CORE,
    HOST,
    QUARANTINED,
    Changes,
    joined,
    member_kind,
)
from cnsmo.model.wording import in_words
from cnsmo.services import registry
from cnsmo.services.base import Refused
from cnsmo.services.seen import shaped
from cnsmo.state import identities, liveness, silences, tokens
from cnsmo.state.beats import Beat, Stand
from cnsmo.state.identities import Identity
from cnsmo.state.writer import Writer
from cnsmo.trust import keys

LOG = log.getLogger(__name__)
MAX_REVISION = 2**63 - 1
OLDEST = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
"""No message was made before."""


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
        admission = self._core.admission
        former = ""

        def work(writer: Writer) -> msg.JoinAnswer:
            nonlocal former
            issued, token = admission.admit(writer, request, key, source)
            former = issued.former
            if former:
                withdraw(writer, request.host, registry.services())
            certified = admission.certify(writer, issued.id, request.host, key)
            row = writer.get(HOST, request.host)
            groups = token.groups if token else list(row.body["groups"]) if row else []
            bounds = token.addresses if token else list(row.body.get(BOUNDS, ())) if row else []
            self._put_host(writer, request.host, issued.id, groups, request.facts, bounds)
            for service in set(request.services) & set(registry.services()):
                if welcome(writer, request.host, service, issued.id, issued.repeated):
                    self._core.liveness.observed(
                        writer.connection, writer.deployment_id, request.host, service,
                        0, False, None,
                    )  # fmt: skip
            return msg.JoinAnswer(
                id=issued.id,
                secret=issued.secret,
                deployment=deployment,
                host=request.host,
                groups=groups,
                certified=certified,
            )

        act = Act(Role.HOST, request.host, source, "join")
        try:
            done = self._core.write(deployment, act, work)
        except Conflict:
            self._refused(deployment, request, act.by("join refused"))
            raise
        answer = done.value
        if former:
            self._part(former, done.revision)
        # A broker that is away is an error: who asks again has the same identity, and its account.
        answer.bus_url = self._core.broker.admit(answer.id)
        LOG.info("deployment=%s host=%s id=%s joined", deployment, answer.host, answer.id)
        return answer

    def _put_host(
        self,
        writer: Writer,
        host: str,
        ident: str,
        groups: list[str],
        facts: HostFacts,
        bounds: Sequence[str],
    ) -> None:
        disputed = put_host(writer, host, ident, groups, facts, bounds)
        if disputed:
            told = "; ".join(f"{address}: {why}" for address, why in disputed.items())
            LOG.warning("deployment=%s host=%s is not believed: %s", writer.deployment, host, told)

    def _refused(self, deployment: str, request: msg.JoinRequest, act: Act) -> None:
        """Tell operators whom a valid token did not let in, and count what it was tried for."""

        def work(writer: Writer) -> None:
            tokens.refused(writer, request.token, request.host)

        self._core.write(deployment, act, work)

    def certify(self, who: Identity, csr: str) -> msg.Certified:
        """Renew a host's certificate; its request is bound to its id.

        :raises Conflict: when the request is by another key.
        """
        key = keys.requested_key(csr, who.id)
        admission = self._core.admission

        def work(writer: Writer) -> msg.Certified:
            present(writer, who.host, who.id)
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
        """Note where a host is to be found, as far as it is believed; its groups stay what the
        token granted.

        One in quarantine is to be found nowhere: it tells again when it looks at them anew.
        """

        def work(writer: Writer) -> None:
            row = present(writer, who.host, who.id)
            if row.body.get(QUARANTINED):
                return
            bounds = row.body.get(BOUNDS, ())
            self._put_host(writer, who.host, who.id, row.body["groups"], facts, bounds)

        self._core.write(who.deployment, _act(who, "facts"), work)

    def learn(self, deployment: str, host: str, facts: CloudFacts, act: Act) -> int:
        """Note what a cloud says of a host.

        :return: the revision that holds it.
        :raises NotFound: when there is no such host.
        """
        return self._core.write(deployment, act, lambda writer: learn(writer, host, facts)).revision

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
            present(writer, who.host, who.id)
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

        That always arrives: of an observation that is too large, only the rest is kept. An agent
        that comes and goes stays down until it was heard for long enough.

        :raises Unavailable: when it comes after a report that was made later.
        """
        service = registry.service(report.service)
        if report.state in (State.JOINING, State.DOWN, State.LEFT):
            raise InvalidRequest(f"an agent does not report itself {report.state}")
        observation = shaped(service, bounded(sound(report.observation)))
        if observation is not report.observation:
            LOG.warning(
                "deployment=%s host=%s service=%s: a part of the observation cannot be kept",
                who.deployment, who.host, report.service,
            )  # fmt: skip

        made = _naive(report.made_at)

        def work(writer: Writer) -> None:
            present(writer, who.host, who.id)
            place = (writer.connection, who.deployment_id, who.host, report.service)
            known = silences.record_of(*place)
            if made is not None and known.reported_at is not None and made < known.reported_at:
                raise Unavailable(f"{report.service}: a report that was made later is known")
            row = writer.get(AGENT, joined(who.host, report.service))
            held = row is not None and row.body["state"] == State.DOWN and self._holds(known)
            reported(writer, who.host, who.id, report, held)
            self._core.liveness.observed(
                *place,
                min(report.applied_revision, writer.base_revision),
                report.state in WORKING,
                observation,
                made,
            )

        self._core.write(who.deployment, _act(who, "report"), work)

    def heartbeat(self, who: Identity, beat: msg.Heartbeat) -> msg.HeartbeatAnswer:
        """Note a sign of life; tell the agent what it may have missed."""
        noted, confirmed = self._core.pulse.ask(
            Beat(who.deployment_id, who.host, who.id, beat.applied, _naive(beat.made_at))
        )
        return msg.HeartbeatAnswer(
            head=noted.head,
            confirmed=confirmed,
            observe_at=noted.looked,
            forgotten=[
                it for it in sorted(beat.applied) if self._must_report(noted.stands.get(it))
            ],
            now=noted.now,
        )

    def _must_report(self, stand: Stand | None) -> bool:
        """Whether an agent that beats must report again: it was said to be down, for example."""
        if stand is None:
            return True
        held = stand.state is State.DOWN and self._holds(stand.record)
        return must_report(stand.state, held)

    def _holds(self, known: silences.Record) -> bool:
        """Whether an agent that was down too often stays so for now, whatever it reports."""
        return known.heard_for < hold(known.downs, self._core.rules)

    def leave(self, who: Identity) -> None:
        """A host leaves by itself.

        :raises NotAdmitted: when it is in quarantine: it would come back as somebody else.
        """
        self.remove(who.deployment, who.host, _act(who, "leave"), keep_tokens=True, who=who)

    def remove(
        self,
        deployment: str,
        host: str,
        act: Act,
        keep_tokens: bool = False,
        who: Identity | None = None,
        only_if: Callable[[Writer], bool] | None = None,
    ) -> int:
        """Remove a host: its secret, its rows, its place in every service.

        keep_tokens: do not revoke those by which it came; a VM may have them still. who: the host
        itself, where it asks. only_if: what has to be so still, inside the write.

        :return: the revision that holds it.
        :raises NotFound: when there is no such host.
        :raises Conflict: when only_if does not hold (any more).
        """

        def work(writer: Writer) -> str:
            if who is not None and present(writer, who.host, who.id).body.get(QUARANTINED):
                raise NotAdmitted(
                    f"{host} is in quarantine: only an operator can remove it, or let it back"
                )
            if only_if is not None and not only_if(writer):
                raise Conflict(f"host {host!r} is not to be removed any more")
            came_by = [] if keep_tokens else identities.came_by(writer, [host])
            if not identities.revoke(writer, host):
                raise no_host(deployment, host)
            for token in came_by:
                tokens.spend(writer, token)
            distrusted = act.role is Role.OPERATOR
            ident = take_out(writer, host, registry.services(), distrusted)
            liveness.forget(writer, host)
            return ident

        done = self._core.write(deployment, act, work)
        self._part(done.value, done.revision)
        return done.revision

    def _part(self, ident: str, revision: int) -> None:
        """Let a host that counts for nothing any more hear of it, and then throw it out."""
        self._core.hinter.part(ident, revision)
        self._core.bouncer.expel(ident)

    def quarantine(self, deployment: str, host: str, act: Act, release: bool) -> int:
        """Take a host out of everything, or let it back: others drop it, itself is shut in.

        It keeps its place: its identity, its account, its addresses.

        :return: the revision that holds it.
        :raises NotFound: when there is no such host.
        """

        def work(writer: Writer) -> None:
            row = writer.get(HOST, host)
            if row is None:
                raise no_host(deployment, host)
            body = {key: value for key, value in row.body.items() if key != QUARANTINED}
            writer.put(HOST, host, body if release else {**body, QUARANTINED: True}, owner=CORE)

        done = self._core.write(deployment, act, work)
        LOG.info(
            "deployment=%s host=%s author=%s quarantine=%s",
            deployment, host, act.author, not release,
        )  # fmt: skip
        return done.revision


def _naive(moment: datetime.datetime | None) -> datetime.datetime | None:
    """A moment that was told, as the tables have it; what is older than all of ours is as old."""
    if moment is None:
        return None
    return max(moment, OLDEST).astimezone(datetime.UTC).replace(tzinfo=None)


def _act(who: Identity, action: str) -> Act:
    """What a host does: over the bus, whose broker hides addresses, it comes from its id."""
    return Act(Role.HOST, who.host, who.id, action)
