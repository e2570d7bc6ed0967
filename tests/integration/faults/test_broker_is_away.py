# SPDX-License-Identifier: Apache-2.0
"""The broker is restarted, is gone for a while, or falls silent."""

import time

import pytest

from cnsmo.bus.clients import OperatorClient
from cnsmo.model.errors import Unavailable
from tests.beds import RabbitmqBed
from tests.eventually import eventually
from tests.integration.fleet import RABBIT, SHOP, Fleet

HOSTS = ("web1", "web2", "web3")
AWAY = 30.0
"""Seconds."""


def changed(number: int) -> str:
    return SHOP.replace("driver:", f"listen_port: {number}, driver:")


def test_after_a_restart_of_the_broker_the_next_change_reaches_everybody(
    fleet: Fleet, rabbitmq: RabbitmqBed
) -> None:
    fleet.apply()
    agents = [fleet.agent(host, heartbeat=2) for host in HOSTS]
    fleet.until_ready(*HOSTS)
    rabbitmq.restart()
    plan = fleet.insist(changed(1))
    fleet.until_ready(*HOSTS, revision=plan.revision or 0)
    for agent in agents:
        assert agent.process.alive
    for program in fleet.programs:
        assert " ERROR cnsmo" not in program.said


def test_while_the_broker_is_away_hosts_keep_what_they_have_and_repair_it(
    fleet: Fleet, rabbitmq: RabbitmqBed
) -> None:
    fleet.settings.pop(RABBIT)  # the pauses that users have
    fleet.apply()
    agents = [fleet.agent(host, resync=2, heartbeat=5, retry_max=10) for host in HOSTS]
    fleet.until_ready(*HOSTS)
    for agent in agents:
        eventually(lambda agent=agent: agent.peers == {*HOSTS} - {agent.host})
    rabbitmq.kill()
    gone = time.monotonic()
    kept = [agent.remembered.read_text() for agent in agents]
    for agent in agents:
        agent.remembered.unlink()
    for agent, text in zip(agents, kept, strict=True):
        eventually(agent.remembered.exists, 20, "repaired without the core")
        assert agent.remembered.read_text() == text
    with pytest.raises(Unavailable):
        fleet.apply(changed(1))
    time.sleep(max(0.0, gone + AWAY - time.monotonic()))  # being away is the fault
    rabbitmq.start()
    back = time.monotonic()
    plan = fleet.insist(changed(2))
    fleet.until_ready(*HOSTS, revision=plan.revision or 0, timeout=60)
    print(f"all agree {time.monotonic() - back:.1f} s after the broker is back")


def test_a_silent_broker_makes_calls_unavailable_not_endless(
    fleet: Fleet, rabbitmq: RabbitmqBed
) -> None:
    """Its process is stopped: connections stay, nothing answers. As behind a dead firewall."""
    fleet.apply()
    agent = fleet.agent("web1", resync=1, rpc_timeout=2, heartbeat=2)
    fleet.until_ready("web1")
    operator = OperatorClient(fleet.conf, timeout=2)
    rabbitmq.pause()
    agent.remembered.unlink()
    started = time.monotonic()
    with pytest.raises(Unavailable):
        operator.apply(changed(1))
    print(f"Unavailable after {time.monotonic() - started:.1f} s")
    eventually(agent.remembered.exists, 40, "repaired although the broker is silent")
    print(f"repaired within {time.monotonic() - started:.1f} s")
    rabbitmq.resume()
    started = time.monotonic()
    plan = fleet.insist(changed(2))
    fleet.until_ready("web1", revision=plan.revision or 0)
    print(f"all is well {time.monotonic() - started:.1f} s after")
