# SPDX-License-Identifier: Apache-2.0
"""Who is there: every core that hears the question says so. Nobody knows how many will answer."""

from __future__ import annotations

import dataclasses
import queue
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

import oslo_messaging
from oslo_config import cfg
from oslo_log import log
from pydantic import ValidationError

from cnsmo.bus import transport
from cnsmo.bus.events import REACH_SECONDS, VERSION, Unwatched
from cnsmo.model.presence import Presence

LOG = log.getLogger(__name__)
TOPIC = "cnsmo-present"
FIRST_SECONDS, NEXT_SECONDS = 5.0, 3.0
"""How long to wait for the first answer, and after each for one more: a core may be busy."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a core said; ``ahead``: seconds that its clock is ahead of ours."""

    core: Presence
    ahead: float


def roll_call(
    conf: cfg.ConfigOpts, first: float = FIRST_SECONDS, following: float = NEXT_SECONDS
) -> list[Answer]:
    """All cores that answer, by name. first, following: seconds of patience.

    :raises Unavailable: when the broker is not reachable.
    """
    transport.reach(conf, REACH_SECONDS)
    answers: queue.Queue[Answer] = queue.Queue()
    topic = f"{TOPIC}.{secrets.token_hex(6)}"
    listener = oslo_messaging.get_rpc_server(
        transport.listening(conf),
        oslo_messaging.Target(topic=topic, exchange=transport.EVENTS_TOPIC, server="doctor"),
        [_Answers(answers)],
        executor="threading",
    )
    listener.start(override_pool_size=1)
    try:
        _cast(conf, transport.EVENTS_TOPIC, "roll_call", {"topic": topic})
        found = list(_collected(answers, first, following))
    finally:
        transport.end(listener)
    return sorted(found, key=lambda it: (it.core.host, it.core.pid))


def _collected(answers: queue.Queue[Answer], first: float, following: float) -> Iterator[Answer]:
    patience = first
    while True:
        try:
            yield answers.get(timeout=patience)
        except queue.Empty:
            return
        patience = following


def _cast(conf: cfg.ConfigOpts, topic: str, method: str, arguments: dict[str, Any]) -> None:
    target = oslo_messaging.Target(
        topic=topic, exchange=transport.EVENTS_TOPIC, version=VERSION, fanout=True
    )
    client = oslo_messaging.get_rpc_client(transport.calls(conf), target, retry=0)
    client.cast({}, method, **arguments)


class _Answers:
    """What cores say."""

    target = oslo_messaging.Target(version=VERSION)

    def __init__(self, answers: queue.Queue[Answer]) -> None:
        self._answers = answers

    @oslo_messaging.expose
    def present(self, ctxt: dict[str, Any], presence: dict[str, Any]) -> None:
        """Called by oslo.messaging for each answer."""
        try:
            core = Presence.model_validate(presence)
            self._answers.put(Answer(core, core.clock - time.time()))
        except ValidationError:
            LOG.warning("a core of another release answers: it is passed over")


class Answering(Unwatched):
    """A core's ear for events: it makes nothing of them, and answers when it is asked."""

    def __init__(self, conf: cfg.ConfigOpts, present: Callable[[], Presence]) -> None:
        self._conf = conf
        self._present = present

    @oslo_messaging.expose
    def roll_call(self, ctxt: dict[str, Any], topic: str) -> None:
        """Called by oslo.messaging when somebody wants to know who is there."""
        if not str(topic).startswith(f"{TOPIC}."):
            return
        began = time.monotonic()
        try:
            told = self._present().model_dump(mode="json")
            _cast(self._conf, topic, "present", {"presence": told})
        except Exception as exc:  # noqa: BLE001  # who asks goes on without this core
            LOG.warning("who is there: not answered: %s", exc)
        LOG.debug("who is there: answered in %.3f s", time.monotonic() - began)
