# SPDX-License-Identifier: Apache-2.0
"""Whatever a stranger sends to where hosts join: it is refused, and nothing is written."""

import dataclasses
import json
from typing import Any

import pytest
from falcon import testing
from hypothesis import given
from hypothesis import strategies as st

from cnsmo.core.context import Core
from cnsmo.core.join_application import NO_REQUEST, application
from cnsmo.core.join_limits import Rate
from cnsmo.core.membership import Membership
from cnsmo.model.messages import JoinRequest
from cnsmo.state.tokens import BAD_TOKEN
from tests.fuzz.wild import damaged, fuzzed, json_value, mutations
from tests.unit.conftest import Operator, contents, request_to_join

MAX_BODY = 65536
WORTHLESS = "t-000000000000.guess"
RIGHT = request_to_join("web1", WORTHLESS, site="paris", private=["10.1.0.5/24"])
FIELDS = list(JoinRequest.model_fields)


@dataclasses.dataclass
class Scene:
    """A core that takes strangers in, and a token that is good."""

    core: Core
    token: str
    stranger: testing.TestClient

    def refuses(self, body: bytes) -> None:
        """It is refused by a plain answer, and nothing is written."""
        before = contents(self.core)
        answer = self.stranger.simulate_post("/v1/join", body=body)
        error = answer.json["error"]
        assert set(error) == {"code", "message", "details"}
        status, code, message = answer.status_code, error["code"], error["message"]
        if not body or len(body) > MAX_BODY:
            assert (status, code) == (413 if body else 411, "invalid-request")
        else:
            assert (status, code) in ((400, "invalid-request"), (403, "denied"))
            assert message in (NO_REQUEST, BAD_TOKEN) or message.startswith("csr: ")
        assert contents(self.core) == before


@pytest.fixture
def scene(core: Core, operator: Operator) -> Scene:
    made = application(Membership(core).join, lambda: "PEM\n", Rate(1e6, 10**9), MAX_BODY)
    return Scene(core, operator.token(), testing.TestClient(made))


@fuzzed
@given(body=st.binary(max_size=300) | json_value.map(lambda value: json.dumps(value).encode()))
def test_no_body_at_all_does_harm(scene: Scene, body: bytes) -> None:
    scene.refuses(body)


@fuzzed
@given(field=st.sampled_from(FIELDS), value=json_value)
def test_no_wrong_field_does_harm(scene: Scene, field: str, value: Any) -> None:
    """Though the token is good."""
    right = request_to_join("web1", scene.token)
    body = json.dumps({**right, field: [value] if field == "facts" else value})
    scene.refuses(b"{}" if field in ("host", "services") and is_right(body) else body.encode())


def is_right(body: str) -> bool:
    """Whether a value that nobody meant happens to be one that can be."""
    try:
        JoinRequest.model_validate_json(body)
    except ValueError:
        return False
    return True


@fuzzed
@given(body=mutations(RIGHT))
def test_no_mutated_request_does_harm(scene: Scene, body: Any) -> None:
    """Its token is worth nothing, so that nothing may be written, whatever it is read as."""
    scene.refuses(json.dumps(body).encode())


@fuzzed
@given(body=damaged(json.dumps(RIGHT).encode()))
def test_no_damaged_request_does_harm(scene: Scene, body: bytes) -> None:
    scene.refuses(body)


@fuzzed
@given(field=st.sampled_from(FIELDS), value=json_value)
def test_no_doubled_key_does_harm(scene: Scene, field: str, value: Any) -> None:
    doubled = f", {json.dumps(field)}: {json.dumps(value)}}}"
    scene.refuses((json.dumps(RIGHT)[:-1] + doubled).encode())


@pytest.mark.parametrize("depth", [1000, 20000])
def test_depth_does_no_harm(scene: Scene, depth: int) -> None:
    scene.refuses(b'{"facts":' * depth)
    scene.refuses(b"[" * depth + b"]" * depth)
