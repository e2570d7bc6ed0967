# SPDX-License-Identifier: Apache-2.0
"""An agent's figures for Prometheus: served when asked for, at no cost to its work."""

import dataclasses
import itertools
import socket
import subprocess
import sys
import threading
import time
import types
from pathlib import Path
from typing import Any

import pytest
from oslo_config import cfg

from cnsmo import conf as options
from cnsmo.agent import exposition, metrics, standing
from cnsmo.agent.heartbeat import Heart
from cnsmo.agent.identity import HostIdentity
from cnsmo.agent.metrics import Metrics, Pulse
from cnsmo.agent.reconcile import Outcome
from cnsmo.agent.standing import Stand, Standing
from cnsmo.agent.wakeup import Reason, Wakeup
from cnsmo.agent.worker import Worker
from cnsmo.cmd import agent as program
from cnsmo.model.lifecycle import State
from cnsmo.services.loadbalancer.drivers.noop import NoopDriver
from cnsmo.services.loadbalancer.service import LoadBalancerService
from cnsmo.services.vpn.service import VpnService
from tests.beds.ports import PortLease, accepts
from tests.eventually import eventually
from tests.scrape import health, read, scrape
from tests.unit.agent.test_process import Place, place, shop  # noqa: F401
from tests.unit.agent.test_worker import Core, row
from tests.unit.agent.test_worker import made as made_worker

WWW = {"on": "all", "listen": 80, "pool": {"hosts": "web1", "port": 8080}, "driver": "noop"}
DOCUMENT = (
    "deployment: shop\n"
    "vpn: {backbone: {cidr: 10.66.0.0/16, driver: noop}}\n"
    "loadbalancer: {www: {on: all, listen: 80, pool: {hosts: web1, port: 8080}, driver: noop}}\n"
)
BOTH = ("loadbalancer", "vpn")
IDENTITY = HostIdentity(id="h-1", secret="s", deployment="shop", host="web1")


@pytest.fixture
def port() -> Any:
    with PortLease() as lease:
        yield lease.port


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The balancer's driver has sent one request more at each look."""
    numbers = itertools.count(1)

    def detail(_driver: NoopDriver, _desired: Any) -> dict[str, Any]:
        return {"servers": {"default": {"web1": {"state": "up", "total": next(numbers)}}}}

    monkeypatch.setattr(NoopDriver, "detail", detail)
    monkeypatch.setattr(standing, "FRESH_SECONDS", 0.0)


REQUESTS = "cnsmo_loadbalancer_server_requests_total", "default", "web1", "www"


def test_an_agent_says_how_its_services_and_units_stand(
    shop: Place,  # noqa: F811
    port: int,
    counted: None,
) -> None:
    shop.agent("web1", services=BOTH, metrics=("127.0.0.1", port))
    shop.ready("web1")
    shop.operator.apply(DOCUMENT)
    eventually(lambda: REQUESTS in scrape(port), what="figures of the load balancer")
    found = scrape(port)
    assert found["cnsmo_agent_state", "loadbalancer", "ready"] == 1
    assert found["cnsmo_agent_state", "loadbalancer", "error"] == 0
    assert found["cnsmo_unit_in_force", "vpn", "backbone"] == 1
    assert found["cnsmo_unit_in_force", "loadbalancer", "www"] == 1
    assert found["cnsmo_agent_applied_revision", "loadbalancer"] >= 3
    assert ("cnsmo_agent_info", "shop", "web1", exposition.__version__) in found
    assert found[("process_resident_memory_bytes",)] > 0
    assert scrape(port)[REQUESTS] > found[REQUESTS], "it looks at each scrape"


def test_an_agent_is_well_while_all_that_is_declared_is_in_force(
    shop: Place,  # noqa: F811
    port: int,
) -> None:
    shop.agent("web1", services=BOTH, metrics=("127.0.0.1", port))
    shop.ready("web1")
    assert health(port)[:2] == (200, "ok")
    assert set(health(port)[2]) == {*BOTH, "core"}


def test_an_agent_in_error_is_failing_and_says_why(
    shop: Place,  # noqa: F811
    port: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: Any) -> None:
        raise OSError("no way")

    shop.agent("web1", services=BOTH, metrics=("127.0.0.1", port))
    shop.ready("web1")
    monkeypatch.setattr(NoopDriver, "apply", fail)
    shop.operator.apply(DOCUMENT)
    eventually(lambda: health(port)[0] == 503)
    _status, level, checks = health(port)
    assert (level, checks["vpn"]["status"]) == ("failing", "ok")
    assert "no way" in checks["loadbalancer"]["reason"]


def test_an_agent_without_its_core_does_its_work_and_says_that_it_is_away(
    shop: Place,  # noqa: F811
    port: int,
) -> None:
    shop.agent("web1", services=BOTH, metrics=("127.0.0.1", port), heartbeat=0.2)
    shop.ready("web1")
    shop.stop_core()
    _status, _level, checks = eventually(lambda: degraded(port), what="it misses the core")
    assert "has not answered for" in checks["core"]["reason"]
    shop.start_core()
    eventually(lambda: health(port)[1] == "ok", what="it hears the core again")


def degraded(port: int) -> tuple[int, str, dict[str, Any]] | None:
    found = health(port)
    assert found[0] == 200, found
    return found if found[1] == "degraded" else None


def test_an_agent_that_does_not_look_any_more_is_failing() -> None:
    settings: Any = types.SimpleNamespace(
        services=("vpn",), resync=60.0, heartbeat=10.0, rpc_timeout=15.0
    )
    heart: Any = types.SimpleNamespace(heard_at=time.monotonic())
    fresh = Outcome(State.READY, "", {}, applied=True)
    stale = dataclasses.replace(fresh, seen_at=time.time() - 200)
    told = [
        Pulse(settings, heart, lambda it=it: [Stand(VpnService(), it, 3)]).health().level
        for it in (fresh, stale)
    ]
    assert told == ["ok", "failing"]
    assert Pulse(settings, heart, list).health().level == "failing", "nothing is known yet"


def configured(*lines: str) -> tuple[str, int] | None:
    """Where an agent with this configuration serves its figures."""
    made = cfg.ConfigOpts()
    options.register(made)
    made.register_cli_opts(program.CLI)
    made([], project="cnsmo", default_config_files=[], default_config_dirs=[])
    for line in lines:
        made.set_override(*line.split(), "metrics")
    return program.settings(made).metrics


def test_figures_are_off_unless_a_port_is_named_and_then_on_loopback() -> None:
    assert configured() is None
    assert configured("listen_address 10.66.0.1") is None
    assert configured("listen_port 9464") == ("127.0.0.1", 9464)
    assert configured("listen_port 9464", "listen_address ::1") == ("::1", 9464)


def test_an_agent_without_figures_listens_nowhere_and_keeps_none(shop: Place) -> None:  # noqa: F811
    shop.agent("web1", services=BOTH)
    shop.ready("web1")
    assert "metrics" not in {thread.name for thread in threading.enumerate()}


def test_an_agent_without_figures_does_not_load_what_would_serve_them() -> None:
    """It would cost memory, and time at the start."""
    loaded = "import sys, cnsmo.cmd.agent, cnsmo.agent.process; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", loaded], capture_output=True, text=True, check=True, timeout=60
    )
    assert "cnsmo.agent.metrics" in done.stdout.split()
    assert not {"prometheus_client", "cnsmo.agent.exposition"} & set(done.stdout.split())


def test_a_port_that_is_taken_is_told_and_the_agent_works_on(
    shop: Place,  # noqa: F811
    port: int,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metrics, "FIRST_PAUSE", 0.05)
    with socket.create_server(("127.0.0.1", port)):
        shop.agent("web1", services=BOTH, metrics=("127.0.0.1", port))
        shop.ready("web1")
        said = f"figures cannot be served at 127.0.0.1 port {port} ([metrics] listen_address, "
        eventually(lambda: said in caplog.text)
        assert "Address already in use" in caplog.text
        assert shop.ends == {}
    eventually(lambda: accepts(port) and scrape(port), what="figures, once the port is free")


def test_the_port_is_free_when_the_agent_has_ended(shop: Place, port: int) -> None:  # noqa: F811
    shop.agent("web1", metrics=("127.0.0.1", port))
    eventually(lambda: accepts(port))
    shop.stop_agent("web1")
    assert not accepts(port)


# what a look for figures does to the agent's work


@pytest.fixture
def worker(core: Core, tmp_path: Path) -> Worker:
    """It has brought a load balancer in force, beside a VPN."""
    core.rows.append(row(3, "loadbalancer", "www", LoadBalancerService.Spec(**WWW).model_dump()))
    return _standing_worker(core, tmp_path)


@pytest.fixture
def core() -> Core:
    return Core()


def _standing_worker(core: Core, path: Path) -> Worker:
    plain = made_worker(core, path, "all", *BOTH)
    heart = Heart(60, BOTH, plain._client, Wakeup())
    made = Worker(plain._settings, IDENTITY, plain._client, heart, Standing(Wakeup()))
    made.work({Reason.SYNC})
    return made


def last(worker: Worker) -> Outcome:
    assert worker._standing
    stand = worker._standing.last(LoadBalancerService())
    assert stand
    return stand.outcome


def total(outcome: Outcome) -> int:
    return int(outcome.observation["www"]["servers"]["default"]["web1"]["total"])


def test_a_look_for_figures_changes_nothing_and_the_core_is_not_called(
    worker: Worker, core: Core, counted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []
    monkeypatch.setattr(NoopDriver, "apply", lambda *_: called.append("apply"))
    monkeypatch.setattr(VpnService, "compile", lambda *_: called.append("compile"))
    syncs, look_at = core.syncs, worker.look_at
    core.called.clear()
    worker.look_for_figures()
    first = total(last(worker))
    worker.look_for_figures()
    assert total(last(worker)) == first + 1
    assert (called, core.called, core.syncs, worker.look_at) == ([], [], syncs, look_at)


def test_a_pass_that_looks_at_nothing_does_not_turn_figures_back(
    worker: Worker, core: Core, counted: None
) -> None:
    worker.look_for_figures()
    worker.look_for_figures()
    seen = total(last(worker))
    core.rows.append(row(len(core.rows) + 1, "agent", "web9/vpn", {"state": "ready"}))
    worker.work({Reason.SYNC})
    assert total(last(worker)) == seen


def test_a_unit_that_is_not_as_declared_any_more_is_not_in_force(
    worker: Worker, tmp_path: Path
) -> None:
    file = tmp_path / "units/loadbalancer/www/noop/desired.json"
    file.write_text("somebody else's")
    worker.look_for_figures()
    assert last(worker).missing == ("www",)
    assert last(worker).state is State.READY, "what follows from it is left to the next pass"
    worker.work({Reason.RESYNC})
    assert last(worker).missing == ()


def test_a_unit_that_could_not_be_brought_in_force_is_missing(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError("no")

    monkeypatch.setattr(NoopDriver, "apply", fail)
    worker.work({Reason.RESYNC})
    worker.look_for_figures()
    assert (last(worker).state, last(worker).missing) == (State.ERROR, ("www",))


def test_a_plugin_that_fails_hides_nobody_elses_figures(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> Any:
        raise KeyError("surprise")

    monkeypatch.setattr(VpnService, "figures", fail)
    balancer = Outcome(State.READY, "", {"www": {"vip": True}}, applied=True)
    broken = Outcome(State.READY, "", {"backbone": {}}, applied=True)
    stands = [Stand(VpnService(), broken, 3), Stand(LoadBalancerService(), balancer, 4)]
    served = exposition.registry(IDENTITY, lambda: stands)
    found = read(exposition_of(served))
    assert found["cnsmo_loadbalancer_vip_held", "www"] == 1
    assert found["cnsmo_unit_in_force", "vpn", "backbone"] == 1
    assert "the figures of vpn backbone" in caplog.text


def exposition_of(registry: Any) -> str:
    from prometheus_client import generate_latest

    return generate_latest(registry).decode()


def test_figures_end_though_they_were_never_served(port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        waiting = Metrics(("127.0.0.1", port), 30.0, IDENTITY, list)
        waiting.start()
        waiting.stop()
        assert not waiting._thread.is_alive()
