# SPDX-License-Identifier: Apache-2.0
"""A core process: answers on both topics, lets hosts join, hints, and looks after health.

All are equal.
"""

from __future__ import annotations

from concurrent import futures

import oslo_messaging
import sqlalchemy as sa
from oslo_config import cfg
from oslo_log import log

from cnsmo.bus import broker, transport
from cnsmo.bus.clients import AgentClient
from cnsmo.bus.events import Announcer, Unwatched
from cnsmo.core.agents_side import AgentsSide
from cnsmo.core.context import Core
from cnsmo.core.endpoints import AgentEndpoints, OperatorEndpoints
from cnsmo.core.health import Health
from cnsmo.core.hints import Hinter
from cnsmo.core.join_server import JoinServer
from cnsmo.core.membership import Membership
from cnsmo.model.errors import Unavailable
from cnsmo.model.messages import JoinAnswer, JoinRequest
from cnsmo.state import schema
from cnsmo.state.engine import make_engine

LOG = log.getLogger(__name__)


class CoreServer:
    """Everything that one core process runs; start() and stop() may alternate."""

    def __init__(self, conf: cfg.ConfigOpts, engine: sa.Engine | None = None) -> None:
        self._conf = conf
        self._engine = engine or make_engine(conf)
        self._servers: list[oslo_messaging.RPCServer] = []
        self._join: JoinServer | None = None
        self._agents_side: AgentsSide | None = None

    @property
    def join_port(self) -> int:
        """The TCP port at which hosts join; 0 when this core lets nobody join."""
        return self._join.port if self._join is not None else 0

    def start(self, health: bool = True) -> None:
        """Begin to answer. health: also do the periodic work, and let hosts join.

        :raises SchemaMismatch: when the database needs a migration.
        :raises NotFound: when there is no certificate authority, and hosts shall join here.
        """
        schema.check(self._engine)
        self._join = None
        if health and self._conf.join.listen:
            self._join = JoinServer(self._conf, self._take)
        bus = broker.load(self._conf)
        agents = AgentClient(self._conf, bus.hinting_url)
        self._hinter = Hinter(
            self._conf.core.hint_interval,
            lambda deployment: list(self.core.identities.living(deployment).values()),
            agents.hint,
        )
        self.core = Core(self._conf, self._engine, Announcer(self._conf), self._hinter, bus)
        self._hinter.start()
        self._health = Health(self.core) if health else None
        calls, exchange = transport.calls(self._conf), transport.EXCHANGE
        agents_side = AgentsSide(bus, lambda: self._answer_agents(bus.answering_url))
        ready = agents_side.start()
        self._agents_side = agents_side
        operators = OperatorEndpoints(self.core)
        self._servers.append(_serve(calls, exchange, transport.OPERATORS_TOPIC, operators))
        events = transport.EVENTS_TOPIC
        listening = transport.listening(self._conf)
        self._servers.append(_serve(listening, events, events, Unwatched()))
        if self._health is not None:
            self._health.start()
        if self._join is not None:
            self._join.start()
        topics = [transport.AGENTS_TOPIC] * ready + [transport.OPERATORS_TOPIC]
        LOG.info("core answers on %s", " and ".join(topics))

    def _take(self, request: JoinRequest, source: str) -> JoinAnswer:
        if self._agents_side is None or not self._agents_side.prepared:
            raise Unavailable("the broker is not prepared yet")
        return Membership(self.core).join(request, source)

    def _answer_agents(self, url: str) -> oslo_messaging.RPCServer:
        bus, topic = transport.calls(self._conf, url), transport.AGENTS_TOPIC
        return _serve(bus, transport.EXCHANGE, topic, AgentEndpoints(self.core))

    def stop(self) -> None:
        """Finish what was begun, and end."""
        with futures.ThreadPoolExecutor() as pool:
            if self._join is not None:
                pool.submit(self._join.stop)
            if self._agents_side is not None:
                pool.submit(self._agents_side.stop)
            list(pool.map(transport.end, self._servers))
        self._servers.clear()
        if self._health is not None:
            self._health.stop()
        self._hinter.stop()
        self._engine.dispose()


def _serve(
    bus: oslo_messaging.RPCTransport, exchange: str, topic: str, endpoint: object
) -> oslo_messaging.RPCServer:
    # One server name for all cores: each name is a queue that the broker would keep.
    target = oslo_messaging.Target(topic=topic, exchange=exchange, server="core")
    server = oslo_messaging.get_rpc_server(
        bus,
        target,
        [endpoint],
        executor="threading",
        access_policy=oslo_messaging.ExplicitRPCAccessPolicy,
    )
    server.start()
    return server
