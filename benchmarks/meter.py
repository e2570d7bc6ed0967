# SPDX-License-Identifier: Apache-2.0
"""Counts, inside a process, what it costs: processor time, SQL statements, messages, bytes."""

from __future__ import annotations

import threading
import time
from typing import Any

import amqp
import sqlalchemy as sa
from kombu import message


class Meter:
    """Counts from now on. ``read`` gives totals; whoever asks subtracts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals = dict.fromkeys(
            ("statements", "sent", "sent_bytes", "received", "received_bytes"), 0
        )
        sa.event.listen(sa.Engine, "before_cursor_execute", self._statement)
        self._watch_sending()
        self._watch_receiving()

    def read(self) -> dict[str, float]:
        """Totals since the beginning; ``cpu`` in seconds, of all threads, user and system."""
        with self._lock:
            return {"cpu": time.process_time(), **self._totals}

    def _add(self, **amounts: int) -> None:
        with self._lock:
            for name, amount in amounts.items():
                self._totals[name] += amount

    def _statement(self, *_args: Any) -> None:
        self._add(statements=1)

    def _watch_sending(self) -> None:
        original = amqp.Channel._basic_publish

        def publish(channel: Any, msg: Any, *args: Any, **kwargs: Any) -> Any:
            self._add(sent=1, sent_bytes=len(msg.body))
            return original(channel, msg, *args, **kwargs)

        amqp.Channel._basic_publish = amqp.Channel.basic_publish = publish

    def _watch_receiving(self) -> None:
        original = message.Message.__init__

        def initialise(received: Any, body: Any = None, *args: Any, **kwargs: Any) -> None:
            self._add(received=1, received_bytes=len(body or ""))
            original(received, body, *args, **kwargs)

        message.Message.__init__ = initialise
