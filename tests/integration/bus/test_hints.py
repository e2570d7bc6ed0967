# SPDX-License-Identifier: Apache-2.0
"""Hints make changes quick; without them, heartbeats make them sure."""

import time

from tests.beds import RabbitmqBed
from tests.beds.erlang import binary
from tests.integration.fleet import SHOP, Agent, Fleet

QUICK = 5.0
"""Seconds; far below a heartbeat of 60, far above what a busy machine needs."""


def changed(number: int) -> str:
    """The shop's document with something else in it each time."""
    return SHOP.replace("driver:", f"listen_port: {number}, driver:")


def queue_of_hints(rabbitmq: RabbitmqBed, fleet: Fleet, agent: Agent) -> str:
    """Name of the queue through which hints come to an agent."""
    ident = {host.name: host.id for host in fleet.operator.host_list("shop")}[agent.host]
    prefix = f"cnsmo-agent.{ident}_fanout_"
    found = [queue.name for queue in rabbitmq.queues(fleet.vhost) if queue.name.startswith(prefix)]
    assert len(found) == 1
    return found[0]


def delete_queue(rabbitmq: RabbitmqBed, fleet: Fleet, name: str) -> None:
    place = f"{{resource, {binary(fleet.vhost.name)}, queue, {binary(name)}}}"
    rabbitmq.evaluate(
        f"{{ok, Q}} = rabbit_amqqueue:lookup({place}),"
        ' {ok, _} = rabbit_amqqueue:delete(Q, false, false, <<"test">>), ok'
    )


def unbind(rabbitmq: RabbitmqBed, fleet: Fleet, name: str) -> None:
    """Let a queue get nothing any more; who consumes it does not notice."""
    place = f"{{resource, {binary(fleet.vhost.name)}, queue, {binary(name)}}}"
    rabbitmq.evaluate(
        '[rabbit_binding:remove(B, <<"test">>) ||'
        f" B <- rabbit_binding:list_for_destination({place}),"
        " element(3, element(2, B)) =:= exchange, element(4, element(2, B)) =/= <<>>], ok"
    )


def test_a_change_is_applied_well_before_the_next_heartbeat(fleet: Fleet) -> None:
    fleet.apply()
    hosts = ("web1", "web2", "web3")
    for host in hosts:
        fleet.agent(host)
    fleet.until_ready(*hosts)
    for number in range(1, 4):
        plan = fleet.apply(changed(number))
        assert plan.revision
        fleet.until_ready(*hosts, revision=plan.revision, timeout=QUICK)


def test_a_lost_hint_is_healed_by_the_next_heartbeat(fleet: Fleet, rabbitmq: RabbitmqBed) -> None:
    fleet.apply()
    deaf, slow = fleet.agent("deaf", heartbeat=1), fleet.agent("slow")
    fleet.until_ready("deaf", "slow")
    for agent in (deaf, slow):
        unbind(rabbitmq, fleet, queue_of_hints(rabbitmq, fleet, agent))
    time.sleep(1)  # what the last hints woke ends; nobody announces that
    plan = fleet.apply(changed(1))
    assert plan.revision
    fleet.until_ready("deaf", revision=plan.revision, timeout=QUICK)
    assert fleet.agents()["slow"].applied_revision < plan.revision


def test_a_host_that_is_gone_does_not_hold_up_the_hints_to_others(
    fleet: Fleet, rabbitmq: RabbitmqBed
) -> None:
    fleet.apply()
    gone = fleet.agent("gone")
    fleet.until_ready("gone")
    fleet.agent("web1")
    fleet.until_ready("web1")
    queue = queue_of_hints(rabbitmq, fleet, gone)
    gone.kill()
    # As when it expires. Its exchange goes too, and the core does not know that.
    delete_queue(rabbitmq, fleet, queue)
    for number in range(1, 4):
        plan = fleet.apply(changed(number))
        assert plan.revision
        fleet.until_ready("web1", revision=plan.revision, timeout=QUICK)


def test_twenty_changes_in_a_burst_are_a_few_rounds_of_work(bare_fleet: Fleet) -> None:
    interval, begun = 1, time.monotonic()
    bare_fleet.core(hint_interval=interval).says("core answers")
    bare_fleet.operator.deployment_create("shop")
    bare_fleet.apply()
    agent = bare_fleet.agent("web1")
    bare_fleet.until_ready("web1")
    plans = [bare_fleet.apply(changed(number)) for number in range(1, 21)]
    newest = plans[-1].revision
    assert newest
    bare_fleet.until_ready("web1", revision=newest, timeout=QUICK)
    rounds = agent.said.count("remembered")
    assert rounds <= 4 + (time.monotonic() - begun) / interval
    assert rounds < 20, "a round for each change"
