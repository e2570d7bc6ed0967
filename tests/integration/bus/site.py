# SPDX-License-Identifier: Apache-2.0
"""A core that admits agents at a real RabbitMQ over TLS, agents, and what a stolen VM can try."""

import contextlib
import json
import secrets
import ssl
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import amqp
from oslo_concurrency import lockutils
from oslo_config import cfg
from oslo_messaging import TransportURL

from cnsmo.agent.identity import HostIdentity, StateDir
from cnsmo.agent.notice import EVERY_SERVICE
from cnsmo.agent.process import AgentProcess
from cnsmo.agent.settings import Settings
from cnsmo.agent.system import LocalSystem
from cnsmo.bus import transport
from cnsmo.bus.brokers.rabbitmq_api import ManagementApi
from cnsmo.bus.clients import CoreClient, OperatorClient
from cnsmo.core.membership import Membership
from cnsmo.core.server import CoreServer
from cnsmo.files import write_file
from cnsmo.model.messages import JoinAnswer, TokenRequest
from tests.beds import TlsRabbitmqBed
from tests.beds.rabbitmq_tls import MANAGER
from tests.eventually import eventually
from tests.joining import join_request, own_facts

RABBIT = "oslo_messaging_rabbit"
MIB = 1024 * 1024
BOUNDS = {
    "core_queue_messages": 100,
    "core_queue_bytes": 2 * MIB,
    "agent_queue_messages": 10,
    "agent_queue_bytes": MIB,
}
DENIED = 403
"""AMQP's ACCESS_REFUSED."""
TIMEOUT = 10.0


class Site:
    """One core, the deployment ``shop``, and the agents' virtual host of this test's own."""

    def __init__(self, bed: TlsRabbitmqBed, conf: cfg.ConfigOpts, path: Path) -> None:
        self.bed = bed
        self.conf = conf
        self.path = path
        self.vhost = f"agents-{secrets.token_hex(4)}"
        self.operators = bed.create_vhost()
        self._configure()
        self.api = ManagementApi(
            bed.management_url, MANAGER, bed.password, str(bed.authority.bundle)
        )
        self.core = CoreServer(conf)
        self.joined: dict[str, JoinAnswer] = {}

    def _configure(self) -> None:
        bed, place = self.bed, f"127.0.0.1:{self.bed.tls_port}"
        key = self.path / "broker.key"
        write_file(key, secrets.token_hex(32))
        account = f"{self.operators.user}:{self.operators.password}"
        options = BOUNDS | {
            "url": f"rabbit://{account}@{place}/{self.operators.name}?ssl=true",
            "broker": "rabbitmq",
            "agents_url": f"rabbit://{place}/{self.vhost}?ssl=true",
            "key_file": str(key),
            "management_url": bed.management_url,
            "management_user": MANAGER,
            "management_password": bed.password,
            "management_ca_file": str(bed.authority.bundle),
            "farewell": 0.0,
        }
        for name, value in options.items():
            self.conf.set_override(name, value, "bus")
        transport.check(self.conf)
        for name, value in self._tls().items():
            self.conf.set_override(name, value, RABBIT)

    def _tls(self) -> dict[str, object]:
        return {
            "ssl_ca_file": str(self.bed.authority.bundle),
            "ssl_cert_file": str(self.bed.client.certificate),
            "ssl_key_file": str(self.bed.client.key),
            "rabbit_interval_max": 1,
        }

    def start(self) -> None:
        """The core answers, and the deployment is there."""
        self.core.start(health=False)
        self.operator = OperatorClient(self.conf, timeout=TIMEOUT)
        self.operator.deployment_create("shop")

    def close(self) -> None:
        """End everything."""
        self.core.stop()
        transport.close()
        for ident in [answer.id for answer in self.joined.values()]:
            self.core.core.broker.revoke(ident)
        self.api.delete("vhosts", self.vhost)
        self.bed.delete_vhost(self.operators)
        for name in self._tls():
            self.conf.clear_override(name, RABBIT)

    def join(self, host: str) -> JoinAnswer:
        """Take a host in, as the join over HTTPS does."""
        token = self.operator.token_create("shop", TokenRequest()).token
        assert token
        nonce = secrets.token_urlsafe(32)
        request = join_request(token, host, nonce=nonce, facts=own_facts(host))
        answer = Membership(self.core.core).join(request)
        self.joined[host] = answer
        return answer

    def client(self, answer: JoinAnswer, role: str = EVERY_SERVICE) -> CoreClient:
        """What a host calls the core with."""
        lockutils.set_defaults(str(self.path / "locks"))  # as an agent process does
        made = CoreClient(self.conf, TIMEOUT)
        url = transport.agent_url(self.conf, answer.bus_url, answer.id, role)
        made.identify(answer.id, answer.secret, url)
        return made

    def agent(self, answer: JoinAnswer) -> AgentProcess:
        """The agent process of a host that has joined."""
        state_dir = StateDir(self.path / answer.host, EVERY_SERVICE)
        told = answer.model_dump(exclude={"groups", "certified"})
        certified = {"certified_at": time.time(), "life": answer.certified.life}
        state_dir.keep(HostIdentity(**told, **certified), answer.certified)
        return AgentProcess(
            self.conf,
            Settings(
                state_dir=state_dir,
                host=answer.host,
                services=("vpn",),
                system=LocalSystem(),
                facts=lambda: own_facts(answer.host),
                token=lambda: "",
                heartbeat=60,
                resync=60,
                rpc_timeout=TIMEOUT,
                retry_max=0.5,
            ),
        )

    def connect(self, answer: JoinAnswer, vhost: str = "") -> amqp.Connection:
        """A connection with a host's account, and nothing of oslo.messaging in between."""
        url = TransportURL.parse(self.conf, answer.bus_url)
        (host,) = url.hosts
        return self.login(host.username, host.password, vhost or url.virtual_host)

    def login(self, user: str, password: str, vhost: str) -> amqp.Connection:
        """A connection with any account."""
        made = amqp.Connection(
            f"127.0.0.1:{self.bed.tls_port}",
            userid=user,
            password=password,
            virtual_host=vhost,
            login_method="PLAIN",
            confirm_publish=True,
            ssl={
                "ca_certs": str(self.bed.authority.bundle),
                "certfile": str(self.bed.client.certificate),
                "keyfile": str(self.bed.client.key),
                "cert_reqs": ssl.CERT_REQUIRED,
                "server_hostname": "127.0.0.1",
            },
            connect_timeout=TIMEOUT,
        )
        made.connect()
        return made

    @contextlib.contextmanager
    def channel(self, answer: JoinAnswer) -> Iterator[amqp.Channel]:
        """A channel of a host's own."""
        connection = self.connect(answer)
        try:
            yield connection.channel()
        finally:
            with contextlib.suppress(amqp.AMQPError, OSError):
                connection.close()

    def waiting(self, queue: str) -> int:
        """Messages that wait in a queue of the agents' virtual host."""
        (count,) = [
            found.messages for found in self.bed.queues(_Named(self.vhost)) if found.name == queue
        ]
        return count

    def names(self, kind: str) -> set[str]:
        """Names of the queues or exchanges of the agents' virtual host."""
        return {thing["name"] for thing in self.api.get(kind, self.vhost, query="?columns=name")}

    def users(self) -> set[str]:
        """Accounts that may enter the agents' virtual host."""
        return {p["user"] for p in self.api.get("vhosts", self.vhost, "permissions")}


class _Named:
    """A virtual host of which the bed needs only the name."""

    def __init__(self, name: str) -> None:
        self.name = name


class Ear:
    """All that arrives in queues of one host, heard with its own account."""

    def __init__(self, site: Site, answer: JoinAnswer) -> None:
        self.topic = transport.agent_topic(answer.id)
        self.hints = f"{self.topic}_fanout_{answer.id}:all:1"
        self.replies = f"reply_{answer.id}:all:1"
        self.heard: list[str] = []
        self._connection = site.connect(answer)
        channel = self._connection.channel()
        channel.exchange_declare(f"{self.topic}_fanout", "fanout", auto_delete=True)
        for queue in (self.hints, self.replies):
            channel.queue_declare(queue, auto_delete=False)
            channel.basic_consume(queue, callback=lambda m: self.heard.append(m.body), no_ack=True)
        channel.queue_bind(self.hints, f"{self.topic}_fanout")

    def until(self, text: str) -> None:
        """Listen until a message with that text comes."""

        def look() -> bool:
            with contextlib.suppress(TimeoutError):
                self._connection.drain_events(timeout=0.1)
            return any(text in message for message in self.heard)

        eventually(look, TIMEOUT, f"{text!r} is heard")

    def close(self) -> None:
        """Hang up; somebody with all rights may have deleted the queues meanwhile."""
        with contextlib.suppress(amqp.ConsumerCancelled):
            self._connection.close()


def refusal(attempt: Callable[[amqp.Channel], object], channel: amqp.Channel) -> int:
    """The code with which the broker refuses; 0 when it does not."""
    try:
        attempt(channel)
    except amqp.AMQPError as exc:
        return int(exc.reply_code or -1)
    return 0


def call_of(method: str, reply_q: object, context: dict[str, Any]) -> dict[str, Any]:
    """What oslo.messaging puts into an envelope for a call."""
    return {
        "method": method,
        "args": {"beat": {"applied": {}}},
        "version": "1.0",
        "_unique_id": uuid.uuid4().hex,
        "_msg_id": uuid.uuid4().hex,
        "_reply_q": reply_q,
        "_timeout": 60,
        **{f"_context_{key}": value for key, value in context.items()},
    }


def in_envelope(inner: dict[str, Any]) -> amqp.Message:
    """A message as oslo.messaging's are."""
    envelope = {"oslo.version": "2.0", "oslo.message": json.dumps(inner)}
    return amqp.Message(
        json.dumps(envelope), content_type="application/json", content_encoding="utf-8"
    )


def call_message(method: str, reply_q: object, context: dict[str, Any]) -> amqp.Message:
    """What oslo.messaging sends for a call, with a queue for the answer that one may choose."""
    return in_envelope(call_of(method, reply_q, context))
