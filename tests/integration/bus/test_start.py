# SPDX-License-Identifier: Apache-2.0
"""The order in which things start never matters."""

import time

import pytest

from cnsmo.bus import transport
from cnsmo.bus.clients import OperatorClient
from cnsmo.bus.events import Watch
from cnsmo.model.errors import Unavailable
from tests.beds import RabbitmqBed
from tests.integration.fleet import Fleet, awaited


def test_three_agents_join_announce_and_are_ready(fleet: Fleet) -> None:
    plan = fleet.apply()
    with Watch(fleet.conf) as watch:
        agents = [fleet.agent(host) for host in ("web1", "web2", "web3")]
        told = {(f"agent.{state}", a.host) for state in ("joining", "ready") for a in agents}
        while told:
            event = awaited(watch, lambda event: (event.type, event.host) in told)
            told.remove((event.type, event.host))
    members = fleet.operator.member_list("shop", "vpn", "backbone")
    assert sorted(members) == ["web1", "web2", "web3"]
    assert len({row.body["addresses"][0] for row in members.values()}) == 3
    newest = max(row.revision for row in members.values())
    assert newest > (plan.revision or 0)
    fleet.until_ready("web1", "web2", "web3", revision=newest)
    for agent in agents:
        assert agent.peers == {"web1", "web2", "web3"} - {agent.host}


def test_an_agent_that_started_before_the_core_joins_when_it_comes(bare_fleet: Fleet) -> None:
    first = bare_fleet.core().says("core answers")
    bare_fleet.operator.deployment_create("shop")
    token = bare_fleet.token()
    bare_fleet.apply()
    assert first.stop() == 0
    agent = bare_fleet.agent("web1", token=token, rpc_timeout=1).says("cannot join yet")
    assert f"no core answers at {bare_fleet.door.join_url}" in agent.said
    bare_fleet.core("second")
    bare_fleet.until_ready("web1")


def test_all_that_started_before_the_broker_finds_it_when_it_comes(
    bare_fleet: Fleet, rabbitmq: RabbitmqBed
) -> None:
    first = bare_fleet.core().says("core answers")
    bare_fleet.operator.deployment_create("shop")
    token = bare_fleet.token()
    bare_fleet.apply()
    first.stop()
    transport.close()
    rabbitmq.stop()
    core = bare_fleet.core("early")
    agent = bare_fleet.agent("web1", token=token).says("cannot join yet: no core answers at ")
    assert "core answers" not in core.said
    rabbitmq.start()
    bare_fleet.operator = OperatorClient(bare_fleet.conf, timeout=10)
    bare_fleet.until_ready("web1")
    assert agent.peers == set()


def test_without_a_broker_everybody_says_so_and_can_be_stopped(
    bare_fleet: Fleet, rabbitmq: RabbitmqBed
) -> None:
    rabbitmq.stop()
    core = bare_fleet.core()
    agent = bare_fleet.agent("web1", token="t.x").says("cannot join yet: no core answers at ")
    operator = OperatorClient(bare_fleet.conf, timeout=1)
    started = time.monotonic()
    with pytest.raises(Unavailable, match="broker is not reachable"):
        operator.deployment_list()
    with pytest.raises(Unavailable, match="broker is not reachable"):
        operator.deployment_list()
    assert time.monotonic() - started < 5
    assert agent.stop(10) == 0
    assert core.stop(10) == 0


def test_a_broker_that_is_there_is_found_by_its_answer_not_by_a_timeout(
    bare_fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport.close()
    monkeypatch.setattr(transport, "NOBODY_SECONDS", 1000.0)
    transport.reach(bare_fleet.conf, 30)


def test_where_no_core_ever_was_a_call_says_so_at_once(bare_fleet: Fleet) -> None:
    started = time.monotonic()
    with pytest.raises(Unavailable, match="no core is there to take deployment_list"):
        bare_fleet.operator.deployment_list()
    assert time.monotonic() - started < 5


def test_a_wrong_password_at_the_broker_is_told_as_such(
    bare_fleet: Fleet, rabbitmq: RabbitmqBed
) -> None:
    url = bare_fleet.vhost.transport_url.replace(bare_fleet.vhost.password, "wrong")
    bare_fleet.conf.set_override("url", url, "bus")
    operator = OperatorClient(bare_fleet.conf, timeout=10)
    for _again in range(2):
        with pytest.raises(Unavailable, match=r"does not let us in.*ACCESS_REFUSED"):
            operator.deployment_list()


@pytest.mark.parametrize(
    ("group", "name", "value", "told"),
    [
        ("bus", "url", "foo://:secret@host/", "[bus] url leads to no broker: write rabbit://"),
        ("bus", "url", "rabbit://:secret@host:x/", "[bus] url leads to no broker: write rabbit://"),
        ("bus", "url", "secret", "[bus] url leads to no broker: write rabbit://"),
        ("core", "purge_after", "secret", "configuration: Value for option purge_after"),
        ("agent", "heartbeat", "0", "configuration: Value for option heartbeat"),
    ],
)
def test_a_wrong_configuration_is_one_line(
    bare_fleet: Fleet, group: str, name: str, value: str, told: str
) -> None:
    bare_fleet.settings[group] = {**bare_fleet.settings[group], name: value}
    programs = {
        "bus": [bare_fleet.core, lambda: bare_fleet.agent("web1", token="t.x")],
        "core": [bare_fleet.core],
        "agent": [lambda: bare_fleet.agent("web1", token="t.x")],
    }
    for start in programs[group]:
        program = start()
        assert program.ends() == 2
        (line,) = [line for line in program.said.splitlines() if line.startswith("cnsmo-")]
        assert told in line
        assert "Traceback" not in program.said
        assert "secret" not in program.said or group == "core"
