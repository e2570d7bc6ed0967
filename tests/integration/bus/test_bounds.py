# SPDX-License-Identifier: Apache-2.0
"""No agent can fill the broker: what is too much or too large is refused, or pushes out its own."""

import amqp
import pytest
from amqp.exceptions import MessageNacked

from cnsmo.model.messages import Heartbeat, JoinAnswer
from tests.beds.rabbitmq_tls import LARGEST
from tests.eventually import eventually
from tests.integration.bus.site import BOUNDS, MIB, TIMEOUT, Site

CORE = "cnsmo-core"
BEAT = Heartbeat(applied={})


def publish(channel: amqp.Channel, answer: JoinAnswer, size: int = 10, key: str = CORE) -> None:
    """Send bytes, and wait for the broker to take or refuse them."""
    message = amqp.Message(b"x" * size)
    exchange = f"cnsmo-agent.{answer.id}"
    channel.basic_publish(message, exchange=exchange, routing_key=key)


def flood(channel: amqp.Channel, answer: JoinAnswer, size: int = 10) -> int:
    """Send until the broker refuses; how many it took."""
    for taken in range(10 * BOUNDS["core_queue_messages"]):
        try:
            publish(channel, answer, size)
        except MessageNacked:
            return taken
    raise AssertionError("the broker takes everything")


def test_a_flood_ends_at_the_bound_of_the_cores_queue(site: Site, thief: JoinAnswer) -> None:
    site.core.stop()
    with site.channel(thief) as channel:
        assert flood(channel, thief) == BOUNDS["core_queue_messages"]
    assert site.waiting(CORE) == BOUNDS["core_queue_messages"]


def test_a_flood_of_large_messages_ends_at_the_bound_of_bytes(
    site: Site, thief: JoinAnswer
) -> None:
    site.core.stop()
    size = MIB // 4
    with site.channel(thief) as channel:
        assert flood(channel, thief, size) <= BOUNDS["core_queue_bytes"] // size


def test_who_comes_after_a_flood_is_answered(
    site: Site, thief: JoinAnswer, victim: JoinAnswer
) -> None:
    site.core.stop()
    with site.channel(thief) as channel:
        flood(channel, thief)
    site.core.start(health=False)
    eventually(lambda: site.waiting(CORE) == 0, TIMEOUT, "what is no call is dropped")
    assert site.client(victim).heartbeat(BEAT).head > 0


def test_a_message_that_is_too_large_for_the_core_is_refused(site: Site, thief: JoinAnswer) -> None:
    with site.channel(thief) as channel:
        with pytest.raises(MessageNacked):
            publish(channel, thief, BOUNDS["core_queue_bytes"] + 1)


def test_a_message_that_is_too_large_for_the_broker_ends_the_channel(
    site: Site, thief: JoinAnswer
) -> None:
    with site.channel(thief) as channel:
        with pytest.raises(amqp.PreconditionFailed, match="larger than configured max size"):
            publish(channel, thief, LARGEST + 1)


def test_a_queue_of_its_own_keeps_the_newest_up_to_the_bound(site: Site, thief: JoinAnswer) -> None:
    hoard = f"cnsmo-agent.{thief.id}.hoard"
    with site.channel(thief) as channel:
        channel.queue_declare(hoard, auto_delete=False)
        channel.queue_bind(hoard, f"cnsmo-agent.{thief.id}", hoard)
        for _number in range(3 * BOUNDS["agent_queue_messages"]):
            publish(channel, thief, key=hoard)
        assert (
            channel.queue_declare(hoard, passive=True).message_count
            == (BOUNDS["agent_queue_messages"])
        )


def test_an_account_has_a_bounded_number_of_connections(site: Site, thief: JoinAnswer) -> None:
    limit = {"value": 3}
    site.api.put("user-limits", f"agent-{thief.id}", "max-connections", body=limit)
    held = [site.connect(thief) for _number in range(3)]
    with pytest.raises(amqp.NotAllowed):
        site.connect(thief)
    for connection in held:
        connection.close()
