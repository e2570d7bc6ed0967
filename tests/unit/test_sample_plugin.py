# SPDX-License-Identifier: Apache-2.0
"""The example of doc/authors.md works: a service from another package, with no change in ours."""

import dataclasses
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from oslo_config import cfg
from stevedore import ExtensionManager

from cnsmo.agent.identity import StateDir
from cnsmo.agent.process import AgentProcess
from cnsmo.agent.settings import Settings
from cnsmo.agent.system import LocalSystem
from cnsmo.bus.clients import OperatorClient
from cnsmo.core.server import CoreServer
from cnsmo.model.errors import DriverError, InvalidDocument
from cnsmo.model.host import HostFacts
from cnsmo.model.messages import TokenRequest
from cnsmo.services import registry
from cnsmo.services.base import Unit
from tests.eventually import eventually
from tests.joining import Door

SAMPLE = Path(__file__).parents[1] / "sample_plugin"
BOOK = "deployment: shop\nphonebook: {office: {members: [web]}}\n"
Start = Callable[..., threading.Thread]


def forget_plugins() -> None:
    """What was found once is remembered, by us and by stevedore."""
    for found in (registry.services, registry.driver_names, registry.driver_class):
        found.cache_clear()
    ExtensionManager.ENTRY_POINT_CACHE.clear()


@pytest.fixture
def sample(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """The package, as if it were installed."""
    monkeypatch.syspath_prepend(str(SAMPLE))
    forget_plugins()
    from cnsmo_sample.driver import FileDriver
    from cnsmo_sample.service import PhonebookDesired

    yield SimpleNamespace(Driver=FileDriver, Desired=PhonebookDesired)
    monkeypatch.undo()
    forget_plugins()
    for name in [name for name in sys.modules if name.startswith("cnsmo_sample")]:
        del sys.modules[name]


@pytest.fixture
def operator(conf: cfg.ConfigOpts, door: Door, sample: Any) -> Iterator[OperatorClient]:
    """An operator, and a core that knows the sample."""
    core = CoreServer(conf)
    core.start()
    made = OperatorClient(conf, timeout=10)
    made.deployment_create("shop")
    yield made
    core.stop()


@pytest.fixture
def agent(
    conf: cfg.ConfigOpts, door: Door, operator: OperatorClient, tmp_path: Path, thread: Start
) -> Iterator[Callable[..., Path]]:
    """Starts agents of the service ``phonebook``; gives the file that each of them keeps."""
    running: list[tuple[AgentProcess, threading.Thread]] = []

    def start(name: str, group: str) -> Path:
        token = operator.token_create("shop", TokenRequest(groups=[group])).token or ""
        settings = Settings(
            state_dir=StateDir(tmp_path / name, "all"),
            host=name,
            services=("phonebook",),
            system=LocalSystem(),
            facts=HostFacts,
            token=lambda: token,
            heartbeat=0.5,
            **dataclasses.asdict(door),
        )
        made = AgentProcess(conf, settings)
        running.append((made, thread(made.run)))
        return tmp_path / name / "units" / "phonebook" / "office" / "noop" / "phonebook.txt"

    yield start
    for made, thread_ in running:
        made.stop()
        thread_.join(30)


def names(book: Path) -> list[str]:
    """Who stands in a phonebook."""
    return [line.split()[1] for line in book.read_text().splitlines()] if book.exists() else []


def test_a_service_of_another_package_goes_all_the_way(
    operator: OperatorClient, agent: Callable[..., Path]
) -> None:
    books = [agent("web1", "web"), agent("web2", "web")]
    elsewhere = agent("db1", "db")
    eventually(lambda: len(operator.host_list("shop")) == 3)
    assert operator.plan(BOOK).hosts == ["web1", "web2"]
    operator.apply(BOOK)
    eventually(lambda: [names(book) for book in books] == [["web1", "web2"]] * 2)
    assert not elsewhere.exists()

    def ready() -> bool:
        agents = [agent for host in operator.host_list("shop") for agent in host.agents]
        return all((agent.service, agent.state) == ("phonebook", "ready") for agent in agents)

    eventually(ready)
    operator.service_delete("shop", "phonebook", "office")
    eventually(lambda: not any(book.parent.exists() for book in books))


def test_all_is_every_host(operator: OperatorClient, agent: Callable[..., Path]) -> None:
    books = [agent("web1", "web"), agent("db1", "db")]
    eventually(lambda: len(operator.host_list("shop")) == 2)
    for members in ("{members: [all]}", "{members: all}", "{}"):
        plan = operator.apply(f"deployment: shop\nphonebook: {{office: {members}}}\n")
        assert plan.hosts == (["db1", "web1"] if members == "{members: [all]}" else [])
    eventually(lambda: [names(book) for book in books] == [["db1", "web1"]] * 2)


def test_its_mistakes_are_told_as_those_of_any_service(operator: OperatorClient) -> None:
    with pytest.raises(InvalidDocument, match=r"line 2: phonebook\.office\.members: no host is in"):
        operator.plan(BOOK)
    with pytest.raises(InvalidDocument, match=r"unknown key \(did you mean 'members'"):
        operator.plan(BOOK.replace("members", "member"))


class TestDriver:
    """What every driver promises, as far as it can be seen on a file."""

    @pytest.fixture(autouse=True)
    def _make(self, sample: Any, tmp_path: Path) -> None:
        self.directory = tmp_path / "unit"
        self.driver = sample.Driver(
            LocalSystem(), "office", "shop/web1/phonebook/office", self.directory
        )
        self.desired = sample.Desired("noop", numbers=(("web1", 100), ("web2", 200)))

    def test_applying_twice_changes_nothing(self) -> None:
        assert self.driver.apply(self.desired) == ["wrote 2 numbers"]
        assert self.driver.apply(self.desired) == []
        assert self.driver.observe(self.desired).drift == ()

    def test_drift_is_seen_and_repaired(self) -> None:
        self.driver.apply(self.desired)
        next(self.directory.iterdir()).write_text("100 somebody\n")
        assert self.driver.observe(self.desired).drift
        assert self.driver.apply(self.desired)
        assert self.driver.observe(self.desired).drift == ()

    def test_a_failure_leaves_what_worked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.driver.apply(self.desired)
        more = dataclasses.replace(self.desired, numbers=(("web1", 100),))

        def refuse(*_args: object, **_options: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as broken:
            broken.setattr(os, "replace", refuse)
            with pytest.raises(DriverError, match="No space left"):
                self.driver.apply(more)
        assert self.driver.observe(self.desired).drift == ()

    def test_announcing_is_stable(self) -> None:
        unit = Unit("office", "noop")
        assert self.driver.announce(unit) == self.driver.announce(unit)

    def test_what_cannot_be_removed_is_told(self) -> None:
        self.directory.write_text("a file where the directory should be")
        with pytest.raises(DriverError, match="cannot be deleted"):
            self.driver.remove()

    def test_removing_leaves_nothing(self) -> None:
        self.driver.apply(self.desired)
        self.driver.remove()
        self.driver.remove()
        assert not self.directory.exists()
