# SPDX-License-Identifier: Apache-2.0
"""What every use case of the core works with, in one place."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from oslo_config import cfg
from oslo_log import log

from cnsmo.bus.broker import Broker
from cnsmo.bus.events import Announcer
from cnsmo.core.admission import Admission
from cnsmo.core.bouncer import Bouncer
from cnsmo.core.counting import UNCOUNTED, Counting
from cnsmo.core.hints import Hinter
from cnsmo.core.naming import Naming
from cnsmo.core.pulse import Pulse
from cnsmo.core.sightings import Sightings
from cnsmo.core.verdict import Rules
from cnsmo.model.audit import BROKEN, Act, AuditLine
from cnsmo.model.errors import Removed
from cnsmo.model.lifecycle import State
from cnsmo.model.messages import EventMessage
from cnsmo.model.resource import AGENT, DISPUTED, HOST, QUARANTINED, Row
from cnsmo.services import registry
from cnsmo.services.base import NetworkService
from cnsmo.state.audit_trail import AuditTrail
from cnsmo.state.beats import Beat, Beats, Noted
from cnsmo.state.identities import Identities
from cnsmo.state.liveness import Liveness
from cnsmo.state.removals import Removals
from cnsmo.state.silences import Silences
from cnsmo.state.store import Store, Written
from cnsmo.state.tokens import Tokens
from cnsmo.state.vault import vault_of
from cnsmo.state.writer import Writer

LOG = log.getLogger(__name__)
T = TypeVar("T")
PATIENCE = 3
"""So many times [core] down_after others wait for an agent that is not down and does not follow."""
MAX_TOLD = 200
"""Characters of what an event of the audit says of the things that were changed."""


class Core:
    """The System State with its tables, and the way to tell others that it changed."""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        engine: sa.Engine,
        announcer: Announcer,
        hinter: Hinter,
        broker: Broker,
        counting: Counting = UNCOUNTED,
    ) -> None:
        self.conf = conf
        self.counting = counting
        self.sightings = Sightings()
        self.vault = vault_of(conf)
        self.store = Store(engine, self.vault)
        self.tokens = Tokens(self.store)
        self.identities = Identities(self.store)
        self.liveness = Liveness(self.store)
        self.pulse = Pulse(self._note)
        self.silences = Silences(self.store)
        self.trail = AuditTrail(engine, self.vault)
        self.removals = Removals(self.store)
        self.announcer = announcer
        self.hinter = hinter
        self.broker = broker
        self.naming = Naming()
        self.admission = Admission(conf, broker, self.naming)
        self.bouncer = Bouncer(broker, self.identities, conf.bus.farewell)

    @property
    def alive_within(self) -> datetime.timedelta:
        """An agent that was heard within this time is not down."""
        return datetime.timedelta(seconds=self.conf.core.down_after)

    @property
    def patience(self) -> datetime.timedelta:
        """An agent that lives has this long to follow, before others go on without it."""
        return PATIENCE * self.alive_within

    def told_behind(self, revision: int) -> str:
        """What is said of an agent that has not applied a revision for so long."""
        seconds = self.patience.total_seconds()
        return f"it has not applied revision {revision} for {seconds:.0f} s; others do not wait"

    @property
    def rules(self) -> Rules:
        """How silence is judged, as the options say just now."""
        told = self.conf.core
        return Rules(
            late_after=min(told.late_after, told.down_after),
            down_after=told.down_after,
            grace=told.grace or told.down_after,
            share=told.suspect_share,
            hosts=told.suspect_hosts,
            flaps=told.flaps,
            window=told.flap_window,
        )

    def _note(self, beats: Sequence[Beat]) -> list[tuple[Noted, dict[str, int]] | Removed]:
        """Note heartbeats; what their deployments' agents have applied is asked once for all."""
        noted = Beats(self.store).note(beats)
        confirmed = {
            ident: self.liveness.confirmed(ident, self.alive_within, self.patience)
            for ident in {beat.deployment_id for beat in beats}
        }
        return [
            it if isinstance(it, Removed) else (it, confirmed[beat.deployment_id])
            for it, beat in zip(noted, beats, strict=True)
        ]

    def write(self, deployment: str, act: Act, work: Callable[[Writer], T]) -> Written[T]:
        """Write, then tell the agents (a hint) and the world (an event for each row, one of the
        audit).
        """
        done = self.store.write(deployment, act.author, work, act)
        if done.rows:
            LOG.info(
                "deployment=%s revision=%d author=%s rows=%d",
                deployment, done.revision, act.author, len(done.rows),
            )  # fmt: skip
            self.hinter.notify(deployment, done.revision, lazy=not self._moves(deployment, done))
            for row in done.rows:
                before = done.replaced.get((row.kind, row.name))
                self.announcer.send(event_of(deployment, row, before))
        self.audited(deployment, done.lines)
        return done

    def audited(self, deployment: str, lines: Sequence[AuditLine]) -> None:
        """Tell the world, once, of lines that a write added to the audit."""
        broken = [line for line in lines if line.action == BROKEN]
        rest = [line for line in lines if line.action != BROKEN]
        for told in filter(None, (broken, rest)):
            self.announcer.send(audit_event(deployment, told))

    def _moves(self, deployment: str, done: Written[T]) -> bool:
        """Whether hosts have to do something about what was written, and soon.

        The services say so. What they say of hosts and agents counts where they are declared.
        """
        movers = {
            service.name: any(_moves(service, row, done) for row in done.rows)
            for service in registry.services().values()
        }
        moved = {name for name, moves in movers.items() if moves}
        if any(row.kind.partition(".")[0] in moved for row in done.rows):
            return True
        return bool(moved) and self.store.has_any(deployment, moved)


def _moves(service: NetworkService, row: Row, done: Written[Any]) -> bool:
    """What a service says of a row; when it cannot say, hosts rather look too early."""
    try:
        return service.moved_by(row, done.replaced.get((row.kind, row.name)))
    except Exception:  # of a plugin; what was written is written
        LOG.exception("%s: moved_by %s %s", service.name, row.kind, row.name)
        return True


def event_of(deployment: str, row: Row, before: Row | None = None) -> EventMessage:
    """The event that tells of a changed row. before: the live row that it replaces.

    ``agent.<state>`` for an agent's transition,
    ``host.announced|moved|disputed|quarantined|removed`` for a host, and
    ``<kind>.declared|removed`` for everything else.
    """
    host = service = message = ""
    if row.kind == AGENT:
        host, _slash, service = row.name.partition("/")
        state = State.LEFT if row.deleted else State(row.body["state"])
        kind, message = f"agent.{state}", str(row.body.get("reason", ""))
    elif row.kind == HOST:
        host = row.name
        kind, message = _of_host(row, before)
    elif row.kind.endswith(".member"):
        service = row.kind.removesuffix(".member")
        message, _slash, host = row.name.rpartition("/")
        kind = f"{row.kind}.{'removed' if row.deleted else 'declared'}"
    else:
        service, message = row.kind, row.name
        kind = f"{row.kind}.{'removed' if row.deleted else 'declared'}"
    return EventMessage(
        type=kind,
        deployment=deployment,
        revision=row.revision,
        host=host,
        service=service,
        message=message,
        at=row.updated_at,
    )


def _of_host(row: Row, before: Row | None) -> tuple[str, str]:
    """The event that tells of a host, and what it says."""
    groups = ", ".join(row.body.get("groups", []))
    if row.deleted:
        return "host.removed", groups
    if row.body.get(QUARANTINED):
        return "host.quarantined", groups
    former = before.body if before else row.body
    disputed = row.body.get(DISPUTED) or {}
    if disputed and (before is None or former.get(DISPUTED) != disputed):
        return "host.disputed", "; ".join(f"{it}: {why}" for it, why in disputed.items())
    if any(former.get(key) != row.body.get(key) for key in ("private", "public")):
        told = (*row.body.get("private", ()), *row.body.get("public", ()))
        return "host.moved", ", ".join(told)
    return "host.announced", groups


def audit_event(deployment: str, lines: Sequence[AuditLine]) -> EventMessage:
    """The event ``audit.ACTION`` of what one write added to the audit; it tells the new end."""
    last = lines[-1]
    where = f" from {last.source}" * bool(last.source)
    things = ", ".join(dict.fromkeys(f"{line.kind} {line.name}".strip() for line in lines))
    return EventMessage(
        type=f"audit.{last.action.replace(' ', '-')}",
        deployment=deployment,
        revision=last.revision,
        host=last.host,
        message=f"{last.who}{where}: {things[:MAX_TOLD]}; line {last.number}, head {last.hash}",
        at=last.at,
    )
