# SPDX-License-Identifier: Apache-2.0
"""Serves what anybody may call, whatever it is: it is answered as ours are, or dropped.

oslo.messaging reads what is around a call before the endpoint does. Left alone it tells the caller
a traceback of what is wrong there, begins a thread for a time-out that the caller names, and takes
no other message for a second after one that it cannot read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import oslo_messaging
from oslo_log import log
from oslo_messaging.rpc.dispatcher import RPCDispatcher, RPCDispatcherError
from oslo_messaging.rpc.server import RPCServer

from cnsmo.bus.envelope import incident, refusal
from cnsmo.model.errors import UnknownCall

LOG = log.getLogger(__name__)
VERSION = re.compile(r"[0-9]{1,9}\.[0-9]{1,9}(\.[0-9]{1,9})?")
NO_CALL = "there is no such call in that version: are both sides of the same release?"


def server(
    bus: oslo_messaging.RPCTransport, exchange: str, topic: str, name: str, endpoint: object
) -> RPCServer:
    """What serves an endpoint; it is not started yet.

    name: each is a queue that the broker keeps. endpoint: what is not exposed cannot be called.
    """
    target = oslo_messaging.Target(topic=topic, exchange=exchange, server=name)
    dispatcher = _Dispatcher([endpoint], None, oslo_messaging.ExplicitRPCAccessPolicy)
    return _Server(bus, target, dispatcher, "threading")


class _Dispatcher(RPCDispatcher):  # type: ignore[misc]
    """Answers every call with an envelope, and begins no thread for it."""

    def dispatch(self, incoming: Any) -> Any:
        """Called by oslo.messaging for each message."""
        incoming.client_timeout = None  # nobody of ours asks for signs of life
        if not _is_call(incoming.message):
            return refusal(UnknownCall(NO_CALL))
        try:
            return super().dispatch(incoming)
        except RPCDispatcherError:
            return refusal(UnknownCall(NO_CALL))
        except Exception:  # noqa: BLE001  # reported under a number
            return incident(str(incoming.message["method"]))


class _Server(RPCServer):  # type: ignore[misc]
    """Goes on after a message that cannot be read."""

    def _create_listener(self) -> Any:
        listener = super()._create_listener()
        for consumer in listener._poll_style_listener.conn._consumers:
            consumer.callback = _dropping(consumer.callback)
        return listener


def _is_call(message: dict[str, Any]) -> bool:
    """Whether it can be one of ours; kombu knows types that JSON has not."""
    version, args = message.get("version"), message.get("args")
    if not isinstance(version, str) or not VERSION.fullmatch(version):
        return False
    if not isinstance(message.get("method"), str) or not isinstance(args, dict):
        return False
    try:
        json.dumps(args)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _dropping(take: Callable[[Any], None]) -> Callable[[Any], None]:
    """The same, but drops what it cannot read, which is acknowledged and cannot be rejected."""

    def taken(message: Any) -> None:
        try:
            take(message)
        except Exception as exc:  # noqa: BLE001  # whatever oslo.messaging raises; a stranger wrote it
            LOG.warning("a message that cannot be read is dropped (%s)", type(exc).__name__)

    return taken
