# SPDX-License-Identifier: Apache-2.0
"""How much waits in the queues that cores take from: asked at the broker itself."""

from __future__ import annotations

import dataclasses
import ssl
from typing import Any

import kombu
import oslo_messaging
from kombu.exceptions import ChannelError, KombuError
from oslo_config import cfg

from cnsmo.bus import inprocess, transport
from cnsmo.model.errors import Unavailable

NOT_FOUND = "404"
"""https://www.rabbitmq.com/amqp-0-9-1-reference.html#constants"""
RABBIT = "oslo_messaging_rabbit"
EVENTS_QUEUE = f"{transport.EVENTS_TOPIC}.info"
"""Where oslo.messaging's Notifier puts events, if it is switched on; who takes them is no core."""


@dataclasses.dataclass(frozen=True)
class Depth:
    """Messages that wait, and how many take them; ``consumers``: None within one process."""

    queue: str
    messages: int
    consumers: int | None


def depths(
    conf: cfg.ConfigOpts, queues: tuple[str, ...], patience: float, url: str = ""
) -> list[Depth]:
    """How much waits in each of these queues that is there.

    patience: seconds for each step. url: of the broker; empty: ``[bus] url``.

    :raises Unavailable: when the broker does not tell.
    """
    try:
        with _connection(conf, url, patience) as connection:
            connection.ensure_connection(max_retries=1, timeout=patience)
            found = [_depth(connection, queue) for queue in queues]
    except (OSError, KombuError, *_errors(conf, url)) as exc:
        raise Unavailable(f"the broker does not tell what waits: {type(exc).__name__}") from exc
    alone = transport.is_in_process(conf, url)
    return [dataclasses.replace(it, consumers=None) if alone else it for it in found if it]


def _depth(connection: kombu.Connection, queue: str) -> Depth | None:
    channel = connection.channel()
    try:
        told = channel.queue_declare(queue, passive=True)
    except (ChannelError, *connection.channel_errors) as exc:
        if str(getattr(exc, "reply_code", NOT_FOUND)) != NOT_FOUND:
            raise
        return None  # and the broker has closed the channel
    channel.close()
    return Depth(queue, told.message_count, told.consumer_count)


def _connection(conf: cfg.ConfigOpts, url: str, patience: float) -> kombu.Connection:
    inprocess.register()
    if transport.is_in_process(conf, url):
        return kombu.Connection(f"{inprocess.ALIAS}://")
    transport.calls(conf, url)  # so that the driver's options are registered
    parsed = oslo_messaging.TransportURL.parse(conf, url or conf.bus.url)
    addresses = [
        kombu.Connection(
            hostname=host.hostname, port=host.port or None, userid=host.username or None,
            password=host.password or None, virtual_host=parsed.virtual_host or "/",
            transport="pyamqp",
        ).as_uri(include_password=True)
        for host in parsed.hosts
    ]  # fmt: skip
    return kombu.Connection(
        ";".join(addresses), ssl=tls_options(conf, parsed), connect_timeout=patience,
        login_method=option(conf, parsed, "rabbit_login_method"),
        transport_options={"read_timeout": patience, "write_timeout": patience},
    )  # fmt: skip


def tls_options(conf: cfg.ConfigOpts, url: oslo_messaging.TransportURL) -> Any:
    """With what a connection is encrypted, as kombu takes it; False: with nothing."""
    if str(option(conf, url, "ssl")).lower() not in ("true", "1", "yes", "on"):
        return False
    files = {
        "keyfile": option(conf, url, "ssl_key_file"),
        "certfile": option(conf, url, "ssl_cert_file"),
        "ca_certs": option(conf, url, "ssl_ca_file"),
    }
    given = {name: value for name, value in files.items() if value}
    verified = ssl.CERT_REQUIRED if "ca_certs" in given else ssl.CERT_NONE
    return {**given, "cert_reqs": verified, "server_hostname": url.hosts[0].hostname}


def option(conf: cfg.ConfigOpts, url: oslo_messaging.TransportURL, name: str) -> Any:
    """An option of oslo.messaging's driver: what the URL says of it counts first."""
    return url.query.get(name, conf[RABBIT][name])


def _errors(conf: cfg.ConfigOpts, url: str) -> tuple[type[BaseException], ...]:
    with _connection(conf, url, 1.0) as connection:
        return tuple(connection.connection_errors) + tuple(connection.channel_errors)
