# SPDX-License-Identifier: Apache-2.0
"""What a heart says besides that it beats: when, by the cores' clock."""

import datetime
from typing import Any

import pytest

from cnsmo.agent import heartbeat
from cnsmo.agent.heartbeat import Heart
from cnsmo.agent.wakeup import Wakeup
from cnsmo.model.messages import Heartbeat, HeartbeatAnswer

NOON = datetime.datetime(2026, 11, 23, 12, tzinfo=datetime.UTC)


class Core:
    """Answers heartbeats; ``now``: what its clock says."""

    def __init__(self) -> None:
        self.now: datetime.datetime | None = NOON
        self.heard: list[Heartbeat] = []

    def heartbeat(self, beat: Heartbeat) -> HeartbeatAnswer:
        self.heard.append(beat)
        return HeartbeatAnswer(head=0, confirmed={}, now=self.now)


@pytest.fixture
def core() -> Core:
    return Core()


@pytest.fixture
def heart(core: Core) -> Heart:
    client: Any = core
    return Heart(10, ["vpn"], client, Wakeup())


def test_what_is_told_is_the_cores_time_whatever_our_clock_says(
    core: Core, heart: Heart, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = 1000.0
    monkeypatch.setattr(heartbeat, "_running", lambda: running)
    assert heart.time() is None
    heart.beat()
    running += 7
    heart.beat()
    assert [beat.made_at for beat in core.heard] == [None, NOON + datetime.timedelta(seconds=7)]
    core.now = NOON - datetime.timedelta(hours=1)
    heart.beat()
    assert heart.time() == core.now, "the cores' clock was set back, and we follow it"


def test_a_core_that_does_not_tell_its_time_is_told_none(core: Core, heart: Heart) -> None:
    core.now = None
    for _again in range(2):
        heart.beat()
    assert [beat.made_at for beat in core.heard] == [None, None]


def test_what_is_said_later_was_made_later_however_long_an_answer_took(
    core: Core, heart: Heart, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = 100.0
    monkeypatch.setattr(heartbeat, "_running", lambda: running)
    heart.beat()
    before = heart.time()
    core.now -= datetime.timedelta(seconds=2)  # told two seconds ago, and on its way since
    heart.beat()
    assert heart.time() == before
    running += 3
    assert heart.time() > before
