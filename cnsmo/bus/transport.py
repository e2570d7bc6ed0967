# SPDX-License-Identifier: Apache-2.0
"""Connects to the bus: one transport per process for calls, one for what is heard, one for events.

Nothing that a broker keeps for us outlives its listener for long: reply queues and the queues of
hints and events expire, all other queues of listeners go with them. What waits for a core stays.
"""

from __future__ import annotations

import dataclasses
import os
import random
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import oslo_messaging
import oslo_messaging.opts
from oslo_config import cfg
from oslo_log import log
from oslo_messaging.exceptions import MessageUndeliverable

from cnsmo.bus import inprocess, tls, uncompressed
from cnsmo.conf.bus import IN_PROCESS
from cnsmo.model.errors import InvalidRequest, Unavailable

LOG = log.getLogger(__name__)
EXCHANGE = "cnsmo"
AGENTS_TOPIC = "cnsmo-core"
"""What agents call; any core process answers."""
OPERATORS_TOPIC = "cnsmo-operator"
"""What operators call; any core process answers."""
EVENTS_TOPIC = "cnsmo-events"
NOBODY_TOPIC = "cnsmo-nobody"
"""Where nobody listens: a call there only finds out whether the broker is reachable."""
NOBODY_SECONDS = 5.0

BAD_URL = "[bus] url leads to no broker: write rabbit://USER:PASSWORD@HOST:5672/VHOST"
"""Without the URL itself, which holds the password."""
BAD_URL_ERRORS = (
    oslo_messaging.InvalidTransportURL,
    oslo_messaging.DriverLoadFailure,
    ValueError,
)
DICE = random.SystemRandom()
RETRIES = 1
"""Tries to reach the broker anew within one call: its connection may be an old one, from before a
restart of the broker. Who called decides what comes after."""
IN_PROCESS_OPTIONS = {"heartbeat_timeout_threshold": "0", "rpc_conn_pool_size": "1000"}
"""Nothing to keep alive, and as many connections as there are agents in the process."""
LISTENING_OPTIONS = {"amqp_auto_delete": "true", "rabbit_quorum_queue": "false"}
"""A queue that its listener left is deleted; quorum queues cannot be."""
ACCOUNT_OPTIONS = {"amqp_durable_queues": "true", "use_queue_manager": "true"}
"""Of an agent with an account of its own: the exchange that the core made for it lasts, and its
queues have names that its account may use."""
DEFAULTS: Mapping[str, float] = {
    "rabbit_transient_queues_ttl": 60,
    "rabbit_interval_max": 8 + DICE.randrange(5),
    "rabbit_retry_interval": 1 + DICE.randrange(2),
    "kombu_reconnect_delay": round(DICE.uniform(0.1, 2.5), 2),
}
"""Our defaults in [oslo_messaging_rabbit], in seconds: after which an abandoned queue expires; the
longest and the shortest pause between two tries to find a lost broker again, and what is added to
each. A broker that comes back is not to meet everybody in one moment, so each process draws its
own. (oslo.messaging's ``kombu_reconnect_splay`` is only written to its log.)"""
QUORUM_OPTIONS = {"rabbit_quorum_queue": "true", "amqp_durable_queues": "true"}
"""The queues of calls are on several nodes of a cluster, and outlive each of them."""

BY_CERTIFICATE = {"rabbit_login_method": "EXTERNAL"}
"""In a URL: the account is the common name of the certificate, and has no password."""

_OPEN: dict[tuple[str, str], Any] = {}
_SEARCHES: dict[str, _Search] = {}
_LOCK = threading.Lock()


def is_in_process(conf: cfg.ConfigOpts, url: str = "") -> bool:
    """Whether the bus lives in this process only.

    url: as with calls().
    """
    return bool((url or conf.bus.url) == IN_PROCESS)


def check(conf: cfg.ConfigOpts) -> None:
    """Find out whether [bus] url makes sense; nothing is connected.

    :raises InvalidRequest: when it does not.
    """
    calls(conf)
    close()


def calls(conf: cfg.ConfigOpts, url: str = "") -> oslo_messaging.RPCTransport:
    """The transport of calls and their answers, and of hints that are sent.

    url: of the broker, with an account of one's own; empty: ``[bus] url``.
    """
    # Who has an account is told in the URL how the queues there are made.
    options = QUORUM_OPTIONS if conf.bus.quorum_queues and not url else {}
    return _opened(conf, "calls", oslo_messaging.get_rpc_transport, options, url)


def listening(conf: cfg.ConfigOpts, url: str = "") -> oslo_messaging.RPCTransport:
    """The transport on which hints and events are heard: who was away asks, nothing is kept.

    url: as with calls().
    """
    return _opened(conf, "listening", oslo_messaging.get_rpc_transport, LISTENING_OPTIONS, url)


def notifications(conf: cfg.ConfigOpts) -> oslo_messaging.NotificationTransport:
    """The transport of notifications to other programs."""
    return _opened(conf, "notifications", oslo_messaging.get_notification_transport, {}, "")


def agent_topic(ident: str) -> str:
    """Where the core casts hints for a host; all its agent processes listen."""
    return f"cnsmo-agent.{ident}"


def hints_exchange(ident: str) -> str:
    """Where a host's own queues are bound: apart from the exchange into which it calls."""
    return f"{agent_topic(ident)}.hints"


@dataclasses.dataclass(frozen=True)
class TlsFiles:
    """Paths of PEM files; ``authorities`` vouch for the broker, empty: as configured.

    They are read for each new connection, so that a renewed certificate needs no restart.
    """

    certificate: str
    key: str
    authorities: str = ""


def agent_url(
    conf: cfg.ConfigOpts, url: str, ident: str, role: str, tls: TlsFiles | None = None
) -> str:
    """The URL that came with an agent's account, completed by the names and files that it may use.

    role: tells agent processes of one host apart. tls: of this host; its certificate is shown
    where it is the login.

    :raises InvalidRequest: when it is no URL of a broker.
    """
    if not url:
        return ""
    try:
        parsed = oslo_messaging.TransportURL.parse(conf, url)
    except BAD_URL_ERRORS:
        raise InvalidRequest("the URL that the core gave this host leads to no broker") from None
    parsed.query.update(ACCOUNT_OPTIONS, hostname=ident, processname=role)
    if tls is not None and tls.authorities:
        parsed.query.update(ssl_ca_file=tls.authorities)
    if tls is not None and BY_CERTIFICATE.items() <= parsed.query.items():
        parsed.query.update(ssl_cert_file=tls.certificate, ssl_key_file=tls.key)
    return str(parsed)


def reach(conf: cfg.ConfigOpts, timeout: float, url: str = "", exchange: str = EXCHANGE) -> None:
    """Find the broker before the first call, waiting for it up to timeout seconds.

    url: as with calls(); exchange: into which we may write.

    oslo.messaging opens the connection for answers in the first call, tries for as long as it
    takes, and cannot be interrupted. So a thread of ours makes the first call, to nobody.

    :raises Unavailable: when it is not found, or does not let us in.
    """
    if is_in_process(conf, url):
        return
    url = url or conf.bus.url
    with _LOCK:
        search = _SEARCHES.get(url)
        if search is None:
            search = _SEARCHES[url] = _Search(url, exchange)
            threading.Thread(target=search.run, args=(conf,), name="reach", daemon=True).start()
    if not search.over.wait(timeout):
        raise Unavailable("the broker is not reachable ([bus] url)")
    if search.failure:
        with _LOCK:
            if _SEARCHES.get(url) is search:
                del _SEARCHES[url]
        raise Unavailable(f"the broker at [bus] url does not let us in: {search.failure}")


def end(server: oslo_messaging.RPCServer) -> None:
    """Let a server finish what it began, and end it with its thread and its connection."""
    server.stop()
    server.wait()


def close() -> None:
    """Close all transports; the next use connects anew."""
    with _LOCK:
        for (_purpose, url), transport in _OPEN.items():
            # Where the broker was never found, a thread still looks for it and holds the transport.
            if url not in _SEARCHES or _SEARCHES[url].over.is_set():
                transport.cleanup()
        _OPEN.clear()
        _SEARCHES.clear()


class _Search:
    """Looks for a broker for as long as it takes."""

    def __init__(self, url: str, exchange: str) -> None:
        self.over = threading.Event()
        self.failure = ""
        self._url = url
        self._exchange = exchange

    def run(self, conf: cfg.ConfigOpts) -> None:
        target = oslo_messaging.Target(topic=NOBODY_TOPIC, exchange=self._exchange)
        # The broker returns at once what it can deliver to nobody. A short timeout would not do: it
        # is the socket's, too, so that a busy broker counts as lost, which costs a second.
        # retry: the connection that this leaves in the pool gives up, too, when the broker is lost.
        nobody = oslo_messaging.get_rpc_client(
            calls(conf, self._url),
            target,
            timeout=NOBODY_SECONDS,
            retry=RETRIES,
            transport_options=oslo_messaging.TransportOptions(at_least_once=True),
        )
        try:
            nobody.call({}, "hello")
        except (MessageUndeliverable, oslo_messaging.MessagingTimeout):
            LOG.debug("the broker is there")
        except Exception as exc:  # noqa: BLE001  # whatever the broker's library raises
            self.failure = str(exc)
        self.over.set()


def _opened(
    conf: cfg.ConfigOpts,
    purpose: str,
    make: Callable[..., Any],
    options: Mapping[str, str],
    url: str,
) -> Any:
    key = (purpose, url or conf.bus.url)
    with _LOCK:
        if key not in _OPEN:
            inprocess.register()
            uncompressed.register()
            tls.register()
            _set_defaults(conf)
            try:
                parsed = oslo_messaging.TransportURL.parse(conf, key[1])
                parsed.query.update(IN_PROCESS_OPTIONS if is_in_process(conf, url) else options)
                if "use_queue_manager" in parsed.query:
                    _see_to_a_leader()
                _OPEN[key] = make(conf, url=parsed)
            except BAD_URL_ERRORS as exc:
                raise InvalidRequest(BAD_URL) from exc
        return _OPEN[key]


def _see_to_a_leader() -> None:
    """oslo.messaging names queues by when the process group's leader began, and a shell that
    started us in the background may have ended: then we lead a group of our own."""
    if not Path(f"/proc/{os.getpgrp()}/stat").exists():
        os.setpgrp()


def _set_defaults(conf: cfg.ConfigOpts) -> None:
    oslo_messaging.set_transport_defaults(EXCHANGE)
    group = "oslo_messaging_rabbit"
    conf.register_opts(dict(oslo_messaging.opts.list_opts())[group], group)
    for name, value in DEFAULTS.items():
        conf.set_default(name, value, group)
