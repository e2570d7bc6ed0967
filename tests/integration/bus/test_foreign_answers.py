# SPDX-License-Identifier: Apache-2.0
"""A call that asks for its answer elsewhere: nobody is silenced, confused, or told anything."""

import pytest

from cnsmo.model.messages import Heartbeat, JoinAnswer
from tests.eventually import eventually
from tests.integration.bus.site import TIMEOUT, Ear, Site, call_message

BEAT = Heartbeat(applied={})
MANY = 200
"""More than a core has threads for calls."""


def forge(site: Site, thief: JoinAnswer, answers_to: object, times: int = 1) -> None:
    """Call the core in the thief's name, for an answer to any queue."""
    context = {"agent_id": thief.id, "agent_secret": thief.secret}
    with site.channel(thief) as channel:
        for _number in range(times):
            channel.basic_publish(
                call_message("heartbeat", answers_to, context),
                exchange=f"cnsmo-agent.{thief.id}",
                routing_key="cnsmo-core",
            )


def taken(site: Site) -> bool:
    """Whether the core has taken all calls."""
    return site.waiting("cnsmo-core") == 0


def test_the_answer_goes_to_the_named_queue_and_holds_what_the_caller_may_know(
    site: Site, thief: JoinAnswer, ear: Ear
) -> None:
    forge(site, thief, ear.replies)
    ear.until("head")
    assert thief.secret not in "".join(ear.heard)
    assert thief.id not in "".join(ear.heard)


def test_a_foreign_answer_does_not_disturb_who_gets_it(
    site: Site, thief: JoinAnswer, victim: JoinAnswer
) -> None:
    client = site.client(victim)
    before = client.heartbeat(BEAT)
    (queue,) = {name for name in site.names("queues") if name.startswith(f"reply_{victim.id}")}
    forge(site, thief, queue, times=20)
    after = client.heartbeat(BEAT)
    assert after.model_copy(update={"now": before.now}) == before
    assert client.sync(0).head == before.head


@pytest.mark.parametrize(
    "answers_to",
    ["cnsmo-core", "cnsmo-operator", "amq.topic", "", None, 17, ["a"], {"a": 1}, "x" * 10_000],
    ids=lambda value: repr(value)[:20],
)
def test_the_core_answers_on_whatever_a_call_names(
    site: Site, thief: JoinAnswer, victim: JoinAnswer, answers_to: object
) -> None:
    forge(site, thief, answers_to, times=3)
    eventually(lambda: taken(site), TIMEOUT, "the core takes the calls")
    assert site.client(victim).heartbeat(BEAT).head > 0


def test_calls_for_answers_to_nowhere_do_not_silence_the_core(
    site: Site, thief: JoinAnswer, victim: JoinAnswer
) -> None:
    client = site.client(victim)
    for _burst in range(MANY // 50):
        forge(site, thief, f"reply_{thief.id}:all:777", times=50)
    assert client.heartbeat(BEAT).head > 0


def test_nobody_can_have_the_answers_to_another_dropped_before_it_is_there(
    site: Site, thief: JoinAnswer, victim: JoinAnswer
) -> None:
    forge(site, thief, f"reply_{victim.id}:all:1", times=20)
    eventually(lambda: taken(site), TIMEOUT, "the core takes the calls")
    client = site.client(victim)
    assert client.heartbeat(BEAT).head > 0
    assert f"reply_{victim.id}:all:1" in site.names("queues")
