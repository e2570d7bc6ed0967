# SPDX-License-Identifier: Apache-2.0
"""Connects to the bus: one transport per process for calls, one for events."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import oslo_messaging
from oslo_config import cfg

from cnsmo.bus import inprocess
from cnsmo.conf.bus import IN_PROCESS

EXCHANGE = "cnsmo"
AGENTS_TOPIC = "cnsmo-core"
"""What agents call; any core process answers."""
OPERATORS_TOPIC = "cnsmo-operator"
"""What operators call; any core process answers."""
EVENTS_TOPIC = "cnsmo-events"

IN_PROCESS_OPTIONS = "?heartbeat_timeout_threshold=0&rpc_conn_pool_size=1000"
"""Nothing to keep alive, and as many connections as there are agents in the process."""

_OPEN: dict[tuple[str, str], Any] = {}
_LOCK = threading.Lock()


def is_in_process(conf: cfg.ConfigOpts) -> bool:
    """Whether the bus lives in this process only."""
    return bool(conf.bus.url == IN_PROCESS)


def calls(conf: cfg.ConfigOpts) -> oslo_messaging.RPCTransport:
    """The transport of calls and hints; one per process and broker."""
    return _opened(conf, oslo_messaging.get_rpc_transport)


def events(conf: cfg.ConfigOpts) -> oslo_messaging.NotificationTransport:
    """The transport of events; one per process and broker."""
    return _opened(conf, oslo_messaging.get_notification_transport)


def agent_topic(ident: str) -> str:
    """Where the core casts hints for a host; all its agent processes listen."""
    return f"cnsmo-agent.{ident}"


def close() -> None:
    """Close all transports; the next use connects anew."""
    with _LOCK:
        for transport in _OPEN.values():
            transport.cleanup()
        _OPEN.clear()


def _opened(conf: cfg.ConfigOpts, make: Callable[..., Any]) -> Any:
    key = (make.__name__, conf.bus.url)
    with _LOCK:
        if key not in _OPEN:
            inprocess.register()
            oslo_messaging.set_transport_defaults(EXCHANGE)
            own = IN_PROCESS_OPTIONS if is_in_process(conf) else ""
            _OPEN[key] = make(conf, url=conf.bus.url + own)
        return _OPEN[key]
