# SPDX-License-Identifier: Apache-2.0
"""A core's figures and its health: of whole cores, with agents, on the bus inside one process."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from oslo_config import cfg
from oslo_db import exception as db_exc

from cnsmo import __version__
from cnsmo.core.server import CoreServer
from cnsmo.model.errors import Conflict
from cnsmo.state.engine import transaction
from tests.beds.ports import PortLease, accepts
from tests.eventually import eventually
from tests.scrape import Series, health, scrape
from tests.unit.agent.test_process import MESH, Place, place, shop  # noqa: F401


@pytest.fixture
def port(conf: cfg.ConfigOpts) -> Iterator[int]:
    """Where cores of this test tell how they are."""
    with PortLease() as lease:
        conf.set_override("listen_port", lease.port, "core_metrics")
        yield lease.port


@pytest.fixture
def watched(port: int, shop: Place) -> Place:  # noqa: F811
    """A core that is asked, and looks anew each time."""
    eventually(lambda: accepts(port))
    post = shop.core._post
    assert post
    for collector in list(post._figures.registry._collector_to_names):
        for name in ("_census", "_queues"):
            if hasattr(collector, name):
                getattr(collector, name)._fresh = 0.0
    return shop


def calls(found: Series, call: str) -> dict[tuple[str, str], float]:
    """How often it was answered, by caller and outcome."""
    return {
        (key[2], key[3]): value
        for key, value in found.items()
        if key[0] == "cnsmo_core_calls_total" and key[1] == call
    }


def test_calls_are_counted_by_who_calls_and_what_became_of_them(watched: Place, port: int) -> None:
    watched.agent("web1")
    watched.ready("web1")
    with pytest.raises(Conflict):
        watched.operator.deployment_create("shop")
    found = scrape(port)
    assert calls(found, "deployment_create") == {("operator", "ok"): 1, ("operator", "conflict"): 1}
    assert calls(found, "join")["join", "ok"] >= 1, "more where its answer took too long"
    assert calls(found, "sync_part")["agent", "ok"] >= 1
    assert found["cnsmo_core_call_seconds_count", "deployment_create", "operator"] == 2
    assert found["cnsmo_core_info", __version__] == 1
    assert found[("process_resident_memory_bytes",)] > 0


def test_a_call_with_a_wrong_proof_is_counted_as_denied(watched: Place, port: int) -> None:
    watched.agent("web1")
    watched.ready("web1")
    with transaction(watched.core._engine) as connection:
        connection.exec_driver_sql("UPDATE identities SET secret_hash = 'forged'")
    eventually(lambda: calls(scrape(port), "heartbeat").get(("agent", "denied")))


def test_hosts_are_counted_by_state_and_in_buckets_and_never_named(
    watched: Place, port: int
) -> None:
    for name in ("web1", "web2"):
        watched.agent(name)
    watched.ready("web1", "web2")
    revision = watched.operator.apply(MESH).revision
    assert revision
    watched.ready("web1", "web2")
    head = eventually(lambda: settled(scrape(port)))
    assert head >= revision
    found = scrape(port)
    assert found["cnsmo_deployment_hosts", "shop"] == 2
    assert found["cnsmo_deployment_agents", "shop", "vpn", "ready"] == 2
    assert found["cnsmo_deployment_lag_revisions_bucket", "shop", "+Inf"] == 2
    assert found["cnsmo_deployment_heard_agents", "shop", "20"] == 2
    assert not [key for key in found if "web1" in str(key)]


def settled(found: Series) -> float:
    """The revision, once two agents have applied it; else 0."""
    up_to_date = found["cnsmo_deployment_lag_revisions_bucket", "shop", "0"] == 2
    return found["cnsmo_deployment_revision", "shop"] if up_to_date else 0.0


def test_an_agent_that_is_behind_is_in_another_bucket(watched: Place, port: int) -> None:
    watched.agent("web1")
    watched.ready("web1")
    watched.stop_agent("web1")
    before = scrape(port)["cnsmo_deployment_lag_revisions_bucket", "shop", "5"]
    for number in range(7):
        watched.operator.apply(MESH.replace("cidr", f"listen_port: {9000 + number}, cidr"))
    found = scrape(port)
    assert before == 1
    assert found["cnsmo_deployment_lag_revisions_bucket", "shop", "5"] == 0
    assert found["cnsmo_deployment_lag_revisions_bucket", "shop", "20"] == 1
    assert found[("cnsmo_deployment_lag_revisions_gsum", "shop")] >= 7


def test_what_waits_for_a_core_is_counted(watched: Place, port: int) -> None:
    found = scrape(port)
    assert found["cnsmo_core_queue_messages", "cnsmo-core"] == 0
    assert found["cnsmo_core_queue_messages", "cnsmo-operator"] == 0


def test_what_the_database_refuses_is_counted(watched: Place, port: int) -> None:
    assert scrape(port)["cnsmo_core_database_errors_total", "other"] == 0
    with pytest.raises(db_exc.DBError), transaction(watched.core._engine) as connection:
        connection.exec_driver_sql("SELECT * FROM nowhere")
    assert scrape(port)["cnsmo_core_database_errors_total", "other"] == 1


def test_a_core_that_works_is_well_and_says_of_what(watched: Place, port: int) -> None:
    status, level, checks = health(port)
    assert (status, level) == (200, "ok")
    assert set(checks) == {"database", "broker", "agents", "periodic"}


def test_a_core_whose_periodic_work_ended_is_failing(watched: Place, port: int) -> None:
    periodic = watched.core._periodic
    assert periodic
    periodic.stop()
    status, level, checks = health(port)
    assert (status, level) == (503, "failing")
    assert checks["periodic"]["reason"] == "its periodic work has ended"
    assert scrape(port)["cnsmo_core_check", "periodic"] == 0


def test_a_core_is_asked_only_where_a_port_is_named_and_not_in_a_command(
    conf: cfg.ConfigOpts, port: int
) -> None:
    command = CoreServer(conf)
    command.start(health=False)
    assert command._post is None
    command.stop()
    conf.clear_override("listen_port", "core_metrics")
    quiet = CoreServer(conf)
    quiet.start()
    assert quiet._post
    assert quiet._post._post is None
    quiet.stop()
    assert conf.core_metrics.listen_address == "127.0.0.1"


def test_a_core_that_nobody_asks_does_not_load_what_would_tell() -> None:
    loaded = "import sys, cnsmo.cmd.core; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", loaded], capture_output=True, text=True, check=True, timeout=60
    )
    assert "cnsmo.core.post" in done.stdout.split()
    assert not {"prometheus_client", "cnsmo.core.figures"} & set(done.stdout.split())


def test_a_core_can_start_and_stop_again(conf: cfg.ConfigOpts, port: int) -> None:
    core = CoreServer(conf)
    for _ in range(2):
        core.start()
        eventually(lambda: accepts(port) and health(port)[1] == "ok")
        core.stop()
        assert not accepts(port)
