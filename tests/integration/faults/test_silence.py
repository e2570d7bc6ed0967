# SPDX-License-Identifier: Apache-2.0
"""Agents that are stopped for a while (SIGSTOP): late, down, back; and too many of them at once."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator

import pytest

from cnsmo.bus.events import Watch
from cnsmo.model.lifecycle import State
from cnsmo.model.messages import EventMessage
from tests.beds import RabbitmqBed
from tests.eventually import eventually
from tests.integration.fleet import Agent, Fleet, awaited

HOSTS = ("db1", "web1", "web2", "web3")
SHARP = {"late_after": 1.5, "down_after": 4, "health_interval": 0.2}
AWAY = float(os.environ.get("CNSMO_AWAY", "12"))
"""Seconds for which the broker is away; three times what makes an agent down, or more."""


@pytest.fixture
def agents(bare_fleet: Fleet) -> dict[str, Agent]:
    """A core that soon notices silence, and four hosts in one VPN."""
    bare_fleet.core(**SHARP).says("core answers")
    bare_fleet.operator.deployment_create("shop")
    bare_fleet.apply()
    made = {host: bare_fleet.agent(host, heartbeat=0.4) for host in HOSTS}
    bare_fleet.until_ready(*HOSTS)
    for host, agent in made.items():
        eventually(lambda agent=agent, host=host: agent.peers == {*HOSTS} - {host})
    return made


@contextlib.contextmanager
def stopped(*agents: Agent) -> Iterator[None]:
    for agent in agents:
        agent.process.pause()
    yield
    for agent in agents:
        agent.process.resume()


def states(fleet: Fleet) -> dict[str, State]:
    return {host: agent.state for host, agent in fleet.agents().items()}


def of(event: EventMessage) -> tuple[str, str, str]:
    """What happened to whom. On a busy machine another one may be late, too."""
    return event.type, event.host, event.service


def silence(fleet: Fleet, *hosts: str) -> float:
    """For how many seconds all of them are silent."""
    found = fleet.agents()
    return min((found[host].heartbeat_age or 0.0 for host in hosts), default=0.0) if found else 0.0


def test_one_that_is_stopped_is_late_then_down_and_ready_when_it_goes_on(
    bare_fleet: Fleet, agents: dict[str, Agent]
) -> None:
    fleet = bare_fleet
    with Watch(fleet.conf) as watch, stopped(agents["web1"]):
        awaited(watch, lambda event: of(event) == ("agent.late", "web1", "vpn"))
        assert fleet.agents()["web1"].late
        assert states(fleet)["web1"] is State.READY
        down = awaited(watch, lambda event: of(event) == ("agent.down", "web1", "vpn"))
        assert down.message.startswith("no heartbeat for 4 s;")
    fleet.until_ready(*HOSTS)
    fleet.until(lambda: not fleet.agents()["web1"].late, "it is in time")


def test_when_most_are_silent_the_core_suspects_itself_and_nobody_is_touched(
    bare_fleet: Fleet, agents: dict[str, Agent]
) -> None:
    fleet = bare_fleet
    head = fleet.operator.deployment_show("shop").revision
    kept = agents["db1"].remembered.read_text()
    with Watch(fleet.conf) as watch:
        with stopped(*(agents[host] for host in HOSTS[1:])):
            told = awaited(watch, lambda event: event.type == "core.suspicious")
            assert told.message.startswith("3 of 4 hosts are silent at once")
            fleet.until(lambda: silence(fleet, *HOSTS[1:]) > 10, "silent for long enough")
            assert set(states(fleet).values()) == {State.READY}
            assert fleet.operator.deployment_show("shop").suspected_since is not None
        awaited(watch, lambda event: event.type == "core.confident")
    assert fleet.operator.deployment_show("shop").revision == head
    assert agents["db1"].remembered.read_text() == kept
    assert fleet.operator.deployment_show("shop").suspected_since is None
    assert "hosts are silent at once" in fleet.cores[0].said


def test_an_operator_who_knows_better_says_so_to_a_core_that_runs(
    bare_fleet: Fleet, agents: dict[str, Agent]
) -> None:
    fleet, gone = bare_fleet, HOSTS[1:]
    config = fleet.directory / "core.conf"
    with Watch(fleet.conf) as watch, stopped(*(agents[host] for host in gone)):
        awaited(watch, lambda event: event.type == "core.suspicious")
        config.write_text(config.read_text().replace("[core]", "[core]\nsuspect_share = 1"))
        os.kill(fleet.cores[0].process.pid, signal.SIGHUP)
        fleet.until(
            lambda: (
                [state for host, state in states(fleet).items() if host in gone] == [State.DOWN] * 3
            ),
            "they are down",
        )
    fleet.until_ready(*HOSTS)


def test_one_that_comes_and_goes_stays_down_until_it_was_heard_without_a_gap(
    bare_fleet: Fleet, agents: dict[str, Agent]
) -> None:
    fleet, web1 = bare_fleet, agents["web1"]
    fleet.cores[0].stop()
    fleet.core("strict", **SHARP, flaps=1).says("core answers")
    with Watch(fleet.conf) as watch:
        for again in (1, 2):
            with stopped(web1):
                fleet.until(lambda: states(fleet).get("web1") is State.DOWN, f"down, {again}")
            awaited(watch, lambda event: event.type == "agent.down")
            if again == 1:
                fleet.until_ready(*HOSTS)
        reason = fleet.agents()["web1"].reason
        assert reason.endswith("down 2 times lately: back once it is heard for 4 s")
        fleet.until(lambda: 0 < silence(fleet, "web1") < 1, "it is heard")
        assert states(fleet)["web1"] is State.DOWN
        fleet.until_ready(*HOSTS)


def test_a_broker_that_was_away_for_long_makes_nobody_down(
    bare_fleet: Fleet, agents: dict[str, Agent], rabbitmq: RabbitmqBed
) -> None:
    fleet = bare_fleet
    head = fleet.operator.deployment_show("shop").revision
    rabbitmq.kill()
    fleet.until(lambda: "hosts are silent at once" in fleet.cores[0].said, "the core says so")
    time.sleep(AWAY)  # being away is the fault
    rabbitmq.start()
    fleet.until_ready(*HOSTS, timeout=90)
    found = fleet.operator.deployment_show("shop")
    assert found.revision == head, "not one of them was said to be down"
