# SPDX-License-Identifier: Apache-2.0
"""What the account of a stolen VM can do at the broker: reach the core, and nothing else."""

from collections.abc import Callable

import amqp
import pytest

from cnsmo.bus.clients import AgentClient
from cnsmo.model.messages import JoinAnswer
from tests.integration.bus.site import DENIED, Ear, Site, refusal

Attempt = Callable[[amqp.Channel, str, str], object]
"""With a channel, the id of who tries, and the id of the victim."""


def send(channel: amqp.Channel, exchange: str, key: str) -> None:
    channel.basic_publish(amqp.Message("forged"), exchange=exchange, routing_key=key)


def listen(channel: amqp.Channel, queue: str) -> None:
    channel.basic_consume(queue, no_ack=True)


def eavesdrop(channel: amqp.Channel, me: str, exchange: str, key: str) -> None:
    channel.queue_declare(f"cnsmo-agent.{me}.spy")
    channel.queue_bind(f"cnsmo-agent.{me}.spy", exchange, key)


def own_queue(channel: amqp.Channel, me: str, **arguments: str) -> None:
    channel.queue_declare(
        f"cnsmo-agent.{me}.dead",
        arguments={name.replace("_", "-"): value for name, value in arguments.items()},
    )


PROBES: dict[str, Attempt] = {
    "write to another's queue": lambda ch, me, it: send(
        ch, "", f"cnsmo-agent.{it}_fanout_{it}:all:1"
    ),
    "write to another's answers": lambda ch, me, it: send(ch, "", f"reply_{it}:all:1"),
    "write into another's exchange": lambda ch, me, it: send(ch, f"cnsmo-agent.{it}", "cnsmo-core"),
    "pose as the core": lambda ch, me, it: send(ch, f"cnsmo-agent.{it}_fanout", ""),
    "write into the core's exchange": lambda ch, me, it: send(ch, "cnsmo", "cnsmo-core"),
    "write into the broker's own exchange": lambda ch, me, it: send(ch, "amq.topic", "x"),
    "read the core's queue": lambda ch, me, it: listen(ch, "cnsmo-core"),
    "take from the core's queue": lambda ch, me, it: ch.basic_get("cnsmo-core"),
    "read another's hints": lambda ch, me, it: listen(ch, f"cnsmo-agent.{it}_fanout_{it}:all:1"),
    "read another's answers": lambda ch, me, it: listen(ch, f"reply_{it}:all:1"),
    "eavesdrop on calls": lambda ch, me, it: eavesdrop(ch, me, "cnsmo", "cnsmo-core"),
    "eavesdrop on everything": lambda ch, me, it: eavesdrop(ch, me, "cnsmo", "#"),
    "eavesdrop on another's calls": lambda ch, me, it: eavesdrop(ch, me, f"cnsmo-agent.{it}", "#"),
    "eavesdrop on hints": lambda ch, me, it: eavesdrop(ch, me, f"cnsmo-agent.{it}_fanout", ""),
    "eavesdrop by the broker's trace": lambda ch, me, it: eavesdrop(
        ch, me, "amq.rabbitmq.trace", "#"
    ),
    "have the core's exchange copy to one's own": lambda ch, me, it: ch.exchange_bind(
        f"cnsmo-agent.{me}", "cnsmo", "#"
    ),
    "copy one's own messages to another": lambda ch, me, it: ch.exchange_bind(
        f"cnsmo-agent.{it}_fanout", f"cnsmo-agent.{me}", "#"
    ),
    "cut another off": lambda ch, me, it: ch.exchange_unbind(
        "cnsmo", f"cnsmo-agent.{it}", "cnsmo-core"
    ),
    "declare another's queue": lambda ch, me, it: ch.queue_declare(f"cnsmo-agent.{it}.x"),
    "declare another's answers": lambda ch, me, it: ch.queue_declare(f"reply_{it}:all:9"),
    "declare a longer name than one's own": lambda ch, me, it: ch.queue_declare(
        f"cnsmo-agent.{me}0"
    ),
    "declare the operators' queue": lambda ch, me, it: ch.queue_declare("cnsmo-operator"),
    "declare any exchange": lambda ch, me, it: ch.exchange_declare("other", "topic"),
    "delete the core's queue": lambda ch, me, it: ch.queue_delete("cnsmo-core"),
    "empty the core's queue": lambda ch, me, it: ch.queue_purge("cnsmo-core"),
    "delete another's queue": lambda ch, me, it: ch.queue_delete(f"reply_{it}:all:1"),
    "delete the core's exchange": lambda ch, me, it: ch.exchange_delete("cnsmo"),
    "delete another's exchange": lambda ch, me, it: ch.exchange_delete(f"cnsmo-agent.{it}"),
    "let dead letters go to any queue": lambda ch, me, it: own_queue(
        ch, me, x_dead_letter_exchange="", x_dead_letter_routing_key=f"reply_{it}:all:1"
    ),
    "let dead letters go to another": lambda ch, me, it: own_queue(
        ch, me, x_dead_letter_exchange=f"cnsmo-agent.{it}_fanout"
    ),
    "let what is unroutable go to another": lambda ch, me, it: ch.exchange_declare(
        f"cnsmo-agent.{me}.x", "topic", arguments={"alternate-exchange": f"cnsmo-agent.{it}_fanout"}
    ),
}


@pytest.mark.parametrize("what", PROBES)
def test_a_stolen_account_is_denied_to(
    site: Site, thief: JoinAnswer, victim: JoinAnswer, ear: Ear, what: str
) -> None:
    with site.channel(thief) as channel:
        code = refusal(lambda ch: PROBES[what](ch, thief.id, victim.id), channel)
    assert code == DENIED
    AgentClient(site.conf, site.core.core.broker.hinting_url).hint(victim.id, 4711)
    ear.until("4711")
    assert not any("forged" in message for message in ear.heard)
    assert site.core.core.bouncer.audit(fix=False) == []


def test_the_probes_would_succeed_without_the_layout(
    site: Site, thief: JoinAnswer, victim: JoinAnswer, ear: Ear
) -> None:
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    site.api.put("permissions", site.vhost, f"agent-{thief.id}", body=everything)
    codes = {}
    for what, attempt in PROBES.items():
        with site.channel(thief) as channel:
            codes[what] = refusal(lambda ch, a=attempt: a(ch, thief.id, victim.id), channel)
    assert DENIED not in codes.values(), codes


def test_copies_of_a_call_reach_nobody_but_the_core(
    site: Site, thief: JoinAnswer, victim: JoinAnswer, ear: Ear
) -> None:
    others = [ear.hints, ear.replies, ear.topic, f"{ear.topic}_fanout"]
    message = amqp.Message("forged", application_headers={"CC": others, "BCC": others})
    with site.channel(thief) as channel:
        channel.basic_publish(message, exchange=f"cnsmo-agent.{thief.id}", routing_key="cnsmo-core")
    AgentClient(site.conf, site.core.core.broker.hinting_url).hint(victim.id, 4711)
    ear.until("4711")
    assert not any("forged" in heard for heard in ear.heard)


def test_an_account_enters_no_virtual_host_but_the_agents(site: Site, thief: JoinAnswer) -> None:
    with pytest.raises(amqp.NotAllowed):
        site.connect(thief, vhost=site.operators.name)
