# SPDX-License-Identifier: Apache-2.0
"""What every use case of the core works with, in one place."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any, TypeVar

import sqlalchemy as sa
from oslo_config import cfg
from oslo_log import log

from cnsmo.bus.broker import Broker
from cnsmo.bus.events import Announcer
from cnsmo.core.bouncer import Bouncer
from cnsmo.core.hints import Hinter
from cnsmo.model.lifecycle import State
from cnsmo.model.messages import EventMessage
from cnsmo.model.resource import AGENT, HOST, Row
from cnsmo.services import registry
from cnsmo.services.base import NetworkService
from cnsmo.state.identities import Identities
from cnsmo.state.liveness import Liveness
from cnsmo.state.removals import Removals
from cnsmo.state.store import Store, Written
from cnsmo.state.tokens import Tokens
from cnsmo.state.writer import Writer

LOG = log.getLogger(__name__)
T = TypeVar("T")


class Core:
    """The System State with its tables, and the way to tell others that it changed."""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        engine: sa.Engine,
        announcer: Announcer,
        hinter: Hinter,
        broker: Broker,
    ) -> None:
        self.conf = conf
        self.store = Store(engine)
        self.tokens = Tokens(self.store)
        self.identities = Identities(self.store)
        self.liveness = Liveness(self.store)
        self.removals = Removals(self.store)
        self.announcer = announcer
        self.hinter = hinter
        self.broker = broker
        self.bouncer = Bouncer(broker, self.identities, conf.bus.farewell)

    @property
    def alive_within(self) -> datetime.timedelta:
        """An agent that was heard within this time is not down."""
        return datetime.timedelta(seconds=self.conf.core.down_after)

    def write(self, deployment: str, author: str, work: Callable[[Writer], T]) -> Written[T]:
        """Write, then tell the agents (a hint) and the world (an event for each row)."""
        done = self.store.write(deployment, author, work)
        if done.rows:
            LOG.info(
                "deployment=%s revision=%d author=%s rows=%d",
                deployment, done.revision, author, len(done.rows),
            )  # fmt: skip
            self.hinter.notify(deployment, done.revision, lazy=not self._moves(deployment, done))
            for row in done.rows:
                self.announcer.send(event_of(deployment, row))
        return done

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


def event_of(deployment: str, row: Row) -> EventMessage:
    """The event that tells of a changed row.

    ``agent.<state>`` for an agent's transition, ``host.announced|quarantined|removed`` for a host,
    and ``<kind>.declared|removed`` for everything else.
    """
    host = service = message = ""
    if row.kind == AGENT:
        host, _slash, service = row.name.partition("/")
        state = State.LEFT if row.deleted else State(row.body["state"])
        kind, message = f"agent.{state}", str(row.body.get("reason", ""))
    elif row.kind == HOST:
        host = row.name
        kind = "host.removed" if row.deleted else "host.announced"
        if row.body.get("quarantined") and not row.deleted:
            kind = "host.quarantined"
        message = ", ".join(row.body.get("groups", []))
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
