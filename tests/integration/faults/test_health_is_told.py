# SPDX-License-Identifier: Apache-2.0
"""What monitoring sees of a real core and a real agent while something that they need is away."""

from collections.abc import Iterator

import pytest

from tests.beds import PostgresqlBed, RabbitmqBed
from tests.beds.ports import PortLease, accepts
from tests.integration.fleet import Fleet
from tests.scrape import health, scrape


@pytest.fixture
def port(bare_fleet: Fleet) -> Iterator[int]:
    """Where the core of this test tells how it is; an agent has the next one."""
    with PortLease() as lease:
        bare_fleet.core_settings["core_metrics"] = {"listen_port": lease.port}
        yield lease.port


@pytest.mark.parametrize("how", ["kill", "pause"])
def test_a_core_without_its_database_is_failing_until_it_is_back(
    port: int, fleet: Fleet, postgresql: PostgresqlBed, how: str
) -> None:
    fleet.until(lambda: accepts(port) and health(port)[1] == "ok", "it is well")
    before = scrape(port)["cnsmo_core_database_errors_total", "unavailable"]
    getattr(postgresql, how)()
    fleet.until(lambda: health(port)[0] == 503, "it is failing")
    _status, _level, checks = health(port)
    assert checks["database"]["status"] == "failing"
    assert checks["broker"]["status"] == "ok"
    found = scrape(port)
    assert found["cnsmo_core_check", "database"] == 0
    postgresql.recover()
    fleet.until(lambda: health(port)[1] == "ok", "it is well again")
    if how == "kill":
        assert scrape(port)["cnsmo_core_database_errors_total", "unavailable"] > before
    assert "Traceback" not in fleet.programs[0].said


def test_a_core_without_its_broker_is_failing_until_it_is_back(
    port: int, fleet: Fleet, rabbitmq: RabbitmqBed
) -> None:
    fleet.until(lambda: accepts(port) and health(port)[1] == "ok", "it is well")
    found = scrape(port)
    assert found["cnsmo_core_queue_messages", "cnsmo-core"] == 0
    assert found["cnsmo_core_queue_consumers", "cnsmo-core"] >= 1
    rabbitmq.kill()
    fleet.until(lambda: health(port)[0] == 503, "it is failing")
    assert "cannot be reached" in health(port)[2]["broker"]["reason"]
    waiting = "cnsmo_core_queue_messages", "cnsmo-core"
    fleet.until(lambda: waiting not in scrape(port), "nobody knows what waits")
    rabbitmq.recover()
    fleet.until(lambda: health(port)[1] == "ok", "it is well again")


def test_an_agent_tells_its_health_beside_the_core_on_one_machine(port: int, fleet: Fleet) -> None:
    with PortLease() as lease:
        agent = fleet.agent("web1", heartbeat=0.5, rpc_timeout=1)
        agent.stop()
        config = fleet.directory / f"{agent.log.stem}.conf"
        config.write_text(f"{config.read_text()}[metrics]\nlisten_port = {lease.port}\n")
        agent.start()
        fleet.until_ready("web1")
        assert health(lease.port)[:2] == (200, "ok")
        fleet.programs[0].kill()
        fleet.until(lambda: health(lease.port)[1] == "degraded", "it misses the core")
        assert health(lease.port)[0] == 200
