# SPDX-License-Identifier: Apache-2.0
"""What fuzzing found, in each database: what one cannot keep is told, and nothing is lost by it.

tests/fuzz makes it up with SQLite, which keeps nearly everything.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from falcon import testing
from oslo_config import cfg

from cnsmo.bus.brokers.none import NoBroker
from cnsmo.core.context import Core
from cnsmo.core.endpoints import AgentEndpoints
from cnsmo.core.join_application import application
from cnsmo.core.join_limits import Rate
from cnsmo.core.membership import Membership
from cnsmo.model.errors import Denied
from cnsmo.state import schema
from cnsmo.state.engine import engine_for
from cnsmo.state.tokens import BAD_TOKEN
from tests.fuzz.test_agent_calls import CALLS, FACTS, OFFER, Scene
from tests.fuzz.wild import deep
from tests.joining import make_authority
from tests.unit.conftest import Operator, Told, contents, request_to_join

WILD: dict[str, Any] = {
    "250 levels": deep(250),
    "900 levels": deep(900),
    "half a character": "\ud800",
    "half a character as a key": {"\ud800": 1},
    "no number": float("nan"),
    "a number without end": 10**400,
    "a number of 65 bits": 2**64,
    "NUL": "\0",
    "NUL as a key": {"a\0b": "c\0d"},
    "four bytes": "\U0001f600" * 300,
    "long": "x" * 100_000,
    "nothing": None,
}


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    made = engine_for(database_url)
    schema.upgrade(made)
    yield made
    made.dispose()


@pytest.fixture
def core(conf: cfg.ConfigOpts, engine: sa.Engine) -> Core:
    make_authority(conf)
    told: Any = Told()
    return Core(conf, engine, told, told, NoBroker(conf))


@pytest.fixture
def operator(core: Core) -> Operator:
    made = Operator(core)
    made.deployment_create(name="shop")
    return made


@pytest.fixture
def scene(core: Core, operator: Operator, tmp_path: Path) -> Scene:
    return Scene(core, operator, tmp_path / "other")


def test_no_observation_does_harm(scene: Scene) -> None:
    for value in WILD.values():
        for seen in ({"backbone": value}, {"backbone": {"up": value}}, value):
            report = {**CALLS["report"]["report"], "observation": seen}
            scene.sends("report", {"report": report}, scene.liar.context)


def test_no_call_does_harm(scene: Scene) -> None:
    for value in WILD.values():
        for method, arguments in CALLS.items():
            if method != "leave":
                wild = dict.fromkeys(arguments, value)
                scene.sends(method, wild, scene.liar.context)
        for field in FACTS:
            scene.sends("facts", {"facts": {**FACTS, field: value}}, scene.liar.context)
        for field in OFFER:
            offer = {"service": "vpn", "instance": "backbone", "body": {**OFFER, field: value}}
            scene.sends("announce", {"announcement": offer}, scene.liar.context)
        for field in ("state", "reason", "applied_revision", "service"):
            report = {**CALLS["report"]["report"], field: value}
            scene.sends("report", {"report": report}, scene.liar.context)
        for field in CALLS["sync_part"]["mark"]:
            mark = {**CALLS["sync_part"]["mark"], field: value}
            scene.sends("sync_part", {"since": 1, "mark": mark}, scene.liar.context)


def test_no_proof_does_harm(scene: Scene) -> None:
    before = contents(scene.core)
    for value in WILD.values():
        for proof in ({"agent_id": value}, {"agent_id": scene.liar.ident, "agent_secret": value}):
            answer = AgentEndpoints(scene.core).sync({"agent_secret": "x", **proof}, since=0)
            assert answer["error"]["code"] == Denied.code
    assert contents(scene.core) == before


@pytest.mark.parametrize("token", ["t-\0.x", "t-0.\0", "\u0661-0.x", "x" * 200, "", ".", "t-0"])
def test_no_token_of_a_stranger_does_harm(core: Core, operator: Operator, token: str) -> None:
    before = contents(core)
    made = application(Membership(core).join, lambda: "PEM\n", Rate(1e6, 10**9), 65536)
    answer = testing.TestClient(made).simulate_post(
        "/v1/join", json=request_to_join("web1", "t-0.x") | {"token": token}
    )
    assert (answer.status_code, answer.json["error"]["message"]) == (403, BAD_TOKEN)
    assert contents(core) == before
