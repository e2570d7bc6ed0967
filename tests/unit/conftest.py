# SPDX-License-Identifier: Apache-2.0
"""A core without a bus, and hosts that talk to it through what it serves."""

import dataclasses
import itertools
from typing import Any

import pytest
import sqlalchemy as sa
from cheroot.server import HTTPServer
from oslo_config import cfg
from oslo_messaging._drivers import amqpdriver

from cnsmo.bus.brokers.none import NoBroker
from cnsmo.bus.envelope import opened
from cnsmo.core.context import Core
from cnsmo.core.endpoints import AgentEndpoints, OperatorEndpoints
from cnsmo.core.membership import Membership
from cnsmo.model.host import HostFacts
from cnsmo.model.messages import EventMessage, JoinRequest
from cnsmo.state.engine import transaction
from cnsmo.state.tables import METADATA
from tests.joining import join_request, make_authority

_chances = itertools.count()


class Told:
    """What a core said: events, those of the audit, hints, last hints."""

    def __init__(self) -> None:
        self.events: list[EventMessage] = []
        self.audits: list[EventMessage] = []
        self.hints: list[tuple[str, int]] = []
        self.urgent: list[bool] = []
        """Of each hint: whether it may not wait."""
        self.parted: list[tuple[str, int]] = []

    def send(self, event: EventMessage) -> None:
        """As Announcer."""
        (self.audits if event.type.startswith("audit.") else self.events).append(event)

    def notify(self, deployment: str, head: int, lazy: bool = False) -> None:
        """As Hinter."""
        self.hints.append((deployment, head))
        self.urgent.append(not lazy)

    def part(self, ident: str, head: int) -> None:
        """As Hinter."""
        self.parted.append((ident, head))

    def types(self) -> list[str]:
        """The events' types, which are then forgotten."""
        found = [event.type for event in self.events]
        self.events.clear()
        return found


@dataclasses.dataclass
class Caller:
    """Somebody who calls the agents' side of a core, with whatever proof."""

    core: Core
    context: dict[str, Any]
    name: str = ""

    def __getattr__(self, method: str) -> Any:
        served = getattr(AgentEndpoints(self.core), method)
        return lambda **arguments: opened(served(self.context, **arguments))

    @property
    def ident(self) -> str:
        """The id that join gave it."""
        return str(self.context["agent_id"])


@dataclasses.dataclass
class Operator:
    """Somebody who calls the operators' side of a core."""

    core: Core
    author: str = "anna"

    def __getattr__(self, method: str) -> Any:
        served = getattr(OperatorEndpoints(self.core), method)
        return lambda **arguments: opened(served({"author": self.author}, **arguments))

    def token(self, deployment: str = "shop", **request: Any) -> str:
        """The text of a new join token."""
        request = {"uses": 1000, **request}
        return str(self.token_create(deployment=deployment, request=request)["token"])

    def join(self, name: str, token: str | None = None, **facts: Any) -> Caller:
        """A host that joined; it runs the VPN service."""
        request = request_to_join(name, token or self.token(), **facts)
        answer = join(self.core, request)
        proof = {"agent_id": answer["id"], "agent_secret": answer["secret"]}
        return Caller(self.core, proof, name)


def request_to_join(name: str, token: str, **facts: Any) -> dict[str, Any]:
    """A join's body, with a nonce and a key of its own."""
    return join_request(
        token, name, nonce=f"{next(_chances):032}", facts=HostFacts(**facts)
    ).model_dump(mode="json")


def join(core: Core, request: dict[str, Any], source: str = "") -> dict[str, Any]:
    """What a core answers to a join's body that came from an address."""
    made = JoinRequest.model_validate(request)
    return Membership(core).join(made, source).model_dump(mode="json")


def contents(core: Core) -> dict[str, list[str]]:
    """All that a core has stored, the audit too, by table."""
    with transaction(core.store.engine) as connection:
        return {
            table.name: sorted(map(repr, connection.execute(sa.select(table))))
            for table in METADATA.sorted_tables
        }


@pytest.fixture(autouse=True)
def listeners_end_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener that shall stop notices it after its current poll: 50 ms at most, not 1 s."""
    monkeypatch.setattr(amqpdriver, "ACK_REQUEUE_EVERY_SECONDS_MAX", 0.05)
    monkeypatch.setattr(HTTPServer, "expiration_interval", 0.05)


@pytest.fixture
def told() -> Told:
    """What the core said."""
    return Told()


@pytest.fixture
def core(conf: cfg.ConfigOpts, engine: sa.Engine, told: Any) -> Core:
    """A core, and the authority by which it knows hosts."""
    make_authority(conf)
    return Core(conf, engine, told, told, NoBroker(conf))


@pytest.fixture
def operator(core: Core) -> Operator:
    """An operator, who made the deployment ``shop``."""
    made = Operator(core)
    made.deployment_create(name="shop")
    return made
