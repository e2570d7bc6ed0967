# SPDX-License-Identifier: Apache-2.0
"""A core whose broker is not ready goes on trying, and does all the rest meanwhile."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from oslo_config import cfg

from cnsmo.bus.brokers.none import NoBroker
from cnsmo.core import agents_side
from cnsmo.core.agents_side import AgentsSide
from cnsmo.model.errors import CnsmoError, Unavailable
from tests.eventually import eventually


class Moody(NoBroker):
    """A broker whose management API is away at first."""

    failure: CnsmoError | None = Unavailable("away")

    def prepare(self) -> None:
        """As the test wants it."""
        if self.failure is not None:
            raise self.failure


class Server:
    """What answers agents."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    def stop(self) -> None:
        """As oslo.messaging's."""

    def wait(self) -> None:
        """As oslo.messaging's."""
        self.ended.set()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents_side, "PAUSE", 0.01)


@pytest.fixture
def moody(conf: cfg.ConfigOpts) -> Moody:
    return Moody(conf)


@pytest.fixture
def served() -> list[Server]:
    return []


@pytest.fixture
def side(moody: Moody, served: list[Server]) -> Iterator[AgentsSide]:
    def serve() -> Any:
        served.append(Server())
        return served[-1]

    made = AgentsSide(moody, serve)
    yield made
    made.stop()


def test_agents_are_answered_at_once_where_the_broker_is_ready(
    moody: Moody, side: AgentsSide, served: list[Server]
) -> None:
    moody.failure = None
    assert side.start()
    assert side.prepared
    side.stop()
    assert [server.ended.is_set() for server in served] == [True]


def test_it_is_tried_again_and_answering_needs_no_management_api(
    moody: Moody, side: AgentsSide, served: list[Server]
) -> None:
    assert not side.start()
    eventually(lambda: served, what="agents are answered")
    assert not side.prepared
    moody.failure = None
    eventually(lambda: side.prepared, what="agents are admitted")
    assert len(served) == 1


def test_a_broker_that_refuses_ends_the_start(moody: Moody, side: AgentsSide) -> None:
    moody.failure = CnsmoError("give it the tag administrator")
    with pytest.raises(CnsmoError, match="administrator"):
        side.start()


def test_what_begins_to_answer_after_the_end_is_ended(moody: Moody) -> None:
    begun, go_on, server = threading.Event(), threading.Event(), Server()

    def serve() -> Any:
        begun.set()
        go_on.wait(30)
        return server

    side = AgentsSide(moody, serve)
    side.start()
    assert begun.wait(30)
    side.stop()
    go_on.set()
    assert server.ended.wait(30)
