# SPDX-License-Identifier: Apache-2.0
"""A core and agents (noop drivers) in this process."""

import dataclasses
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cnsmo.agent.identity import StateDir
from cnsmo.agent.process import AgentProcess
from cnsmo.agent.settings import Settings
from cnsmo.agent.system import LocalSystem
from cnsmo.bus.clients import OperatorClient
from cnsmo.core.server import CoreServer
from cnsmo.model.host import HostFacts
from cnsmo.model.messages import TokenRequest
from tests.functional.manage.person import Person, Puppet


@pytest.fixture
def core(conf, door) -> Iterator[CoreServer]:
    made = CoreServer(conf)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def person(core, tmp_path) -> Person:
    return Person(tmp_path)


@pytest.fixture
def operator(core, conf) -> OperatorClient:
    return OperatorClient(conf)


@pytest.fixture
def puppet(core, operator) -> Callable[..., Puppet]:
    """puppet("web1", site="east"): a host of the deployment lab that does what it is told."""

    def join(name: str, **facts: Any) -> Puppet:
        if "lab" not in {found.name for found in operator.deployment_list()}:
            operator.deployment_create("lab")
        token = operator.token_create("lab", TokenRequest(groups=["web"])).token
        return Puppet(core.core, name, str(token), **facts)

    return join


@pytest.fixture
def hosts(core, conf, door, tmp_path, operator) -> Iterator[Callable[..., None]]:
    """hosts("web1", "web2"): agents of those names join the deployment lab and keep running."""
    agents: list[AgentProcess] = []
    threads: list[threading.Thread] = []

    def join(*names: str, group: str = "web", heartbeat: float = 0.5) -> None:
        if "lab" not in {found.name for found in operator.deployment_list()}:
            operator.deployment_create("lab")
        token = operator.token_create("lab", TokenRequest(groups=[group], uses=len(names)))
        for name in names:
            number = len(agents) + 1
            facts = HostFacts(
                site="east", private=(f"192.168.1.{number}/24",), public=(f"198.18.1.{number}",)
            )
            settings = Settings(
                StateDir(tmp_path / "hosts" / name, "all"),
                name,
                ("vpn",),
                LocalSystem(),
                lambda facts=facts: facts,
                lambda: str(token.token),
                heartbeat=heartbeat,
                **dataclasses.asdict(door),
            )
            agents.append(AgentProcess(conf, settings))
            threads.append(threading.Thread(target=agents[-1].run, daemon=True))
            threads[-1].start()

    yield join
    for agent in agents:
        agent.stop()
    for thread in threads:
        thread.join(15)
        assert not thread.is_alive()
