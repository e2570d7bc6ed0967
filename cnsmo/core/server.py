# SPDX-License-Identifier: Apache-2.0
"""A core process: answers on both topics, lets hosts join, hints, and looks after health.

All are equal.
"""

from __future__ import annotations

import functools
import gc
import time
from concurrent import futures

import oslo_messaging
import sqlalchemy as sa
from oslo_config import cfg
from oslo_log import log

from cnsmo.bus import broker, serving, transport
from cnsmo.bus.broker import Broker
from cnsmo.bus.clients import AgentClient
from cnsmo.bus.envelope import OK
from cnsmo.bus.events import Announcer
from cnsmo.bus.rollcall import Answering
from cnsmo.core import counting
from cnsmo.core.agents_side import AgentsSide
from cnsmo.core.context import Core
from cnsmo.core.counting import UNCOUNTED, Counting
from cnsmo.core.endpoints import AgentEndpoints, OperatorEndpoints
from cnsmo.core.hints import Hinter
from cnsmo.core.join_server import JoinServer
from cnsmo.core.membership import Membership
from cnsmo.core.periodic import Periodic
from cnsmo.core.post import CorePost
from cnsmo.core.presence import Present
from cnsmo.core.providers import Providers
from cnsmo.model.errors import CnsmoError, Unavailable
from cnsmo.model.messages import JoinAnswer, JoinRequest
from cnsmo.state import schema, sealing
from cnsmo.state.engine import make_engine
from cnsmo.state.vault import vault_of

LOG = log.getLogger(__name__)


class CoreServer:
    """Everything that one core process runs; start() and stop() may alternate."""

    def __init__(self, conf: cfg.ConfigOpts, engine: sa.Engine | None = None) -> None:
        self._conf = conf
        self._engine = engine or make_engine(conf)
        self._servers: list[oslo_messaging.RPCServer] = []
        self._join: JoinServer | None = None
        self._agents_side: AgentsSide | None = None
        self._post: CorePost | None = None

    @property
    def join_port(self) -> int:
        """The TCP port at which hosts join; 0 when this core lets nobody join."""
        return self._join.port if self._join is not None else 0

    def start(self, health: bool = True) -> None:
        """Begin to answer. health: also do the periodic work, and let hosts join.

        :raises SchemaMismatch: when the database needs a migration.
        :raises NotFound: when there is no key for the database's secrets; or no certificate
            authority, and hosts shall join here.
        :raises InvalidRequest: when that key is not the one that the database is sealed with.
        """
        schema.check(self._engine)
        sealing.check(self._engine, vault_of(self._conf))
        self._join = None
        if health and self._conf.join.listen:
            self._join = JoinServer(self._conf, self._take)
        bus = broker.load(self._conf)
        bus.check()
        agents = AgentClient(self._conf, bus.hinting_url)
        self._post = self._make_post(bus) if health else None
        counts = self._post.counting if self._post is not None else UNCOUNTED
        self._hinter = Hinter(
            self._conf.core.hint_interval,
            lambda deployment: list(self.core.identities.living(deployment).values()),
            functools.partial(_hint, agents, counts),
        )
        announcer = Announcer(self._conf)
        self.core = Core(self._conf, self._engine, announcer, self._hinter, bus, counts)
        self._hinter.start()
        self._periodic = Periodic(self.core) if health else None
        self._providers = Providers(self.core) if health else None
        calls, exchange = transport.calls(self._conf), transport.EXCHANGE
        agents_side = AgentsSide(bus, lambda: self._answer_agents(bus.answering_url))
        ready = agents_side.start()
        self._agents_side = agents_side
        operators = OperatorEndpoints(self.core)
        self._servers.append(_serve(calls, exchange, transport.OPERATORS_TOPIC, operators))
        events = transport.EVENTS_TOPIC
        listening, ears = transport.listening(self._conf), Answering(self._conf, Present(self.core))
        self._servers.append(_serve(listening, events, events, ears))
        if self._periodic is not None:
            self._periodic.start()
        if self._providers is not None:
            self._providers.start()
        if self._join is not None:
            self._join.start()
        if self._post is not None:
            self._post.start()
        gc.freeze()  # it all stays: nobody shall wait while garbage is looked for in it
        topics = [transport.AGENTS_TOPIC] * ready + [transport.OPERATORS_TOPIC]
        LOG.info("core answers on %s", " and ".join(topics))

    def _take(self, request: JoinRequest, source: str) -> JoinAnswer:
        began, outcome = time.monotonic(), CnsmoError.code
        try:
            if self._agents_side is None or not self._agents_side.prepared:
                raise Unavailable("the broker is not prepared yet")
            answer = Membership(self.core).join(request, source)
            outcome = OK
            return answer
        except CnsmoError as exc:
            outcome = exc.code
            raise
        finally:
            seconds = time.monotonic() - began
            self.core.counting.call(counting.JOINS, "join", outcome, seconds)

    def _make_post(self, bus: Broker) -> CorePost:
        running = {
            "agents": lambda: "" if self._answers_agents() else "agents are not answered yet",
            "periodic": lambda: "" if self._looks() else "its periodic work has ended",
        }
        return CorePost(self._conf, self._engine, bus.answering_url, running)

    def _answers_agents(self) -> bool:
        return self._agents_side is not None and self._agents_side.answering

    def _looks(self) -> bool:
        return self._periodic is not None and self._periodic.alive

    def _answer_agents(self, url: str) -> oslo_messaging.RPCServer:
        bus, topic = transport.calls(self._conf, url), transport.AGENTS_TOPIC
        return _serve(bus, transport.EXCHANGE, topic, AgentEndpoints(self.core))

    def stop(self) -> None:
        """Finish what was begun, and end."""
        if self._post is not None:
            self._post.stop()
        with futures.ThreadPoolExecutor() as pool:
            if self._join is not None:
                pool.submit(self._join.stop)
            if self._agents_side is not None:
                pool.submit(self._agents_side.stop)
            list(pool.map(transport.end, self._servers))
        self._servers.clear()
        if self._periodic is not None:
            self._periodic.stop()
        if self._providers is not None:
            self._providers.stop()
        self._hinter.stop()
        self._engine.dispose()


def _hint(agents: AgentClient, counts: Counting, ident: str, head: int) -> None:
    try:
        agents.hint(ident, head)
    except Exception:
        counts.hint(sent=False)
        raise
    counts.hint(sent=True)


def _serve(
    bus: oslo_messaging.RPCTransport, exchange: str, topic: str, endpoint: object
) -> oslo_messaging.RPCServer:
    # One server name for all cores: each name is a queue that the broker would keep.
    server = serving.server(bus, exchange, topic, "core", endpoint)
    server.start()
    return server
