# SPDX-License-Identifier: Apache-2.0
"""An agent dies, or comes back into a world that changed or is not there."""

import json
import os

import pytest

from cnsmo.model.errors import Removed
from cnsmo.model.lifecycle import State
from tests.beds import RabbitmqBed
from tests.eventually import eventually
from tests.integration.fleet import PLUGIN, SHOP, Fleet

GATED = SHOP.replace("noop", "gated")


def test_an_agent_killed_in_the_middle_of_apply_converges_when_it_is_back(
    bare_fleet: Fleet,
) -> None:
    fleet, gate = bare_fleet, bare_fleet.directory / "gate"
    fleet.env |= {"PYTHONPATH": str(PLUGIN), "CNSMO_GATE": str(gate)}
    fleet.core().says("core answers")
    fleet.operator.deployment_create("shop")
    first = fleet.apply(GATED)
    victim = fleet.agent("web1", "--service", "vpn")
    fleet.until_ready("web1", revision=first.revision or 0)
    remembered = victim.state_dir / "units" / "vpn" / "backbone" / "gated" / "desired.json"
    os.mkfifo(gate)
    second = fleet.apply(GATED.replace("driver:", "listen_port: 9, driver:"))
    assert gate.read_text() == "half done"
    victim.kill()
    with pytest.raises(ValueError, match="Expecting"):
        json.loads(remembered.read_text())
    gate.unlink()
    victim.start().says("from disk")
    assert second.revision
    fleet.until_ready("web1", revision=second.revision)
    assert json.loads(remembered.read_text())["peers"] == []
    assert "set aside" not in victim.said


def test_an_agent_started_while_nobody_answers_restores_its_host_from_its_own_disk(
    fleet: Fleet, rabbitmq: RabbitmqBed
) -> None:
    fleet.apply()
    agent, other = (fleet.agent(host, resync=1, heartbeat=2) for host in ("web1", "web2"))
    fleet.until_ready("web1", "web2")
    eventually(lambda: agent.peers == {"web2"})
    assert agent.stop() == 0
    before = agent.remembered.read_text()
    agent.remembered.unlink()
    rabbitmq.stop()
    agent.start()
    eventually(agent.remembered.exists, 20, "restored although the broker is away")
    assert agent.remembered.read_text() == before
    agent.remembered.unlink()
    eventually(agent.remembered.exists, 20, "repaired although the broker is away")
    rabbitmq.start()
    plan = fleet.insist(SHOP.replace("driver:", "listen_port: 9, driver:"))
    fleet.until_ready("web1", "web2", revision=plan.revision or 0)
    assert other.process.alive


def test_an_agent_whose_host_was_removed_meanwhile_takes_everything_down_and_ends(
    fleet: Fleet,
) -> None:
    fleet.apply()
    agent, other = fleet.agent("web1"), fleet.agent("web2")
    fleet.until_ready("web1", "web2")
    eventually(lambda: other.peers == {"web1"})
    agent.kill()
    fleet.operator.host_remove("shop", "web1")
    eventually(lambda: other.peers == set())
    for _again in range(2):  # as when systemd starts it at the next boot
        agent.start()
        assert agent.ends() == Removed.exit_code
        assert "was removed from its deployment" in agent.said
        assert "Traceback" not in agent.said
        left = {path.name for path in agent.state_dir.rglob("*") if path.is_file()}
        assert left <= {"agents.lock", "all.lock", "removed", "notice-all.json"}
    assert list(fleet.agents()) == ["web2"]


def test_an_agent_that_was_silent_for_too_long_is_down_and_then_ready_again(
    bare_fleet: Fleet,
) -> None:
    fleet = bare_fleet
    fleet.core(down_after=3, health_interval=0.2).says("core answers")
    fleet.operator.deployment_create("shop")
    fleet.apply()
    agent = fleet.agent("web1", heartbeat=0.5)
    fleet.until_ready("web1")
    agent.process.pause()
    fleet.until(lambda: fleet.agents()["web1"].state is State.DOWN, "web1 is down")
    assert "no heartbeat for 3 s" in fleet.agents()["web1"].reason
    agent.process.resume()
    fleet.until_ready("web1")
