# SPDX-License-Identifier: Apache-2.0
"""What strangers hear over HTTPS: whatever they send, no more than that it is wrong."""

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from falcon import testing

from cnsmo.core.context import Core
from cnsmo.core.join_application import NO_REQUEST, application
from cnsmo.core.join_limits import Count, Rate, plain, source_of
from cnsmo.core.membership import Membership
from cnsmo.model.errors import NotFound, Unavailable
from cnsmo.model.messages import JoinAnswer, JoinRequest
from cnsmo.state.tokens import BAD_TOKEN
from tests.joining import join_request
from tests.unit.conftest import Operator, request_to_join

BODY = 65536


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def client(
    join: Callable[[JoinRequest, str], JoinAnswer], rate: Rate | None = None
) -> testing.TestClient:
    made = application(join, lambda: "PEM\n", rate or Rate(1000, 100000), BODY)
    return testing.TestClient(made)


@pytest.fixture
def stranger(core: Core) -> testing.TestClient:
    return client(Membership(core).join)


def told(answer: testing.Result) -> tuple[int, str, str]:
    error = answer.json["error"]
    assert set(error) == {"code", "message", "details"}
    return answer.status_code, error["code"], error["message"]


def post(stranger: testing.TestClient, body: Any, address: str = "192.0.2.1") -> testing.Result:
    return stranger.simulate_post("/v1/join", body=body, remote_addr=address)


def test_a_right_request_is_taken_and_its_answer_is_not_kept_by_anybody(
    core: Core, operator: Operator, stranger: testing.TestClient
) -> None:
    answer = post(stranger, join_request(operator.token(), "web1").model_dump_json())
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    joined = JoinAnswer.model_validate_json(answer.text)
    assert core.identities.authenticate(joined.id, joined.secret).host == "web1"


def test_the_authorities_are_for_everybody(stranger: testing.TestClient) -> None:
    answer = stranger.simulate_get("/v1/ca")
    assert (answer.status_code, answer.text) == (200, "PEM\n")


@pytest.mark.parametrize(
    "wrong",
    [
        {"host": "Web 1"},
        {"host": "web1\n"},
        {"nonce": "short"},
        {"services": ["no such"]},
        {"groups": ["admin"]},
        {"facts": {"site": "../.."}},
        {"facts": {"private": ["10.0.0.1/24"] * 17}},
        {"facts": {"mtu": 0}},
        {"facts": {"groups": ["admin"]}},
        {"token": "x" * 201},
        {"csr": "x" * 4097},
        {"csr": None},
    ],
)
def test_a_wrong_request_is_refused_and_leaves_nothing(
    core: Core, operator: Operator, stranger: testing.TestClient, wrong: dict[str, Any]
) -> None:
    token = operator.token(uses=1)
    before = core.store.changes("shop")
    body = json.dumps({**request_to_join("web1", token), **wrong})
    assert told(post(stranger, body)) == (400, "invalid-request", NO_REQUEST)
    assert core.store.changes("shop") == before
    assert operator.token_list(deployment="shop")[0]["uses_left"] == 1


def test_a_wrong_token_is_denied_before_anything_else_is_looked_at(
    operator: Operator, stranger: testing.TestClient
) -> None:
    body = {**request_to_join("web1", "t-000000000000.guess"), "csr": "no request"}
    assert told(post(stranger, json.dumps(body))) == (403, "denied", BAD_TOKEN)


def test_a_token_for_other_addresses_sees_the_address_of_the_connection(
    operator: Operator, stranger: testing.TestClient
) -> None:
    body = json.dumps(request_to_join("web1", operator.token(source="10.1.0.0/24")))
    assert told(post(stranger, body))[0] == 403
    assert told(stranger.simulate_post(
        "/v1/join", body=body, remote_addr="192.0.2.1", headers={"X-Forwarded-For": "10.1.0.7"}
    ))[0] == 403  # fmt: skip
    assert post(stranger, body, "::ffff:10.1.0.7").status_code == 200


def test_a_name_that_is_taken_is_a_conflict(
    operator: Operator, stranger: testing.TestClient
) -> None:
    operator.join("web1")
    status, code, message = told(
        post(stranger, json.dumps(request_to_join("web1", operator.token())))
    )
    assert (status, code) == (409, "conflict")
    assert "host readmit web1" in message


@pytest.mark.parametrize(
    ("failure", "status", "code", "message"),
    [
        (Unavailable("postgresql://cnsmo@db is away"), 503, "unavailable",
         "the core cannot answer now"),
        (NotFound("no authority in /var/lib/secret"), 500, "error", "internal error"),
        (RuntimeError("secret of the core"), 500, "error", "internal error"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_core_is_for_its_log_alone(
    failure: Exception, status: int, code: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(request: JoinRequest, source: str) -> JoinAnswer:
        raise failure

    with caplog.at_level(logging.WARNING):
        answer = post(client(fail), join_request("t", "web1").model_dump_json())
    assert told(answer)[:2] == (status, code)
    assert answer.json["error"]["message"].startswith(message)
    assert str(failure) not in answer.text
    assert str(failure) in caplog.text


def test_a_body_that_is_too_large_is_not_read(stranger: testing.TestClient) -> None:
    assert told(post(stranger, "x" * (BODY + 1)))[:2] == (413, "invalid-request")


def test_a_body_of_unknown_length_is_refused(stranger: testing.TestClient) -> None:
    answer = stranger.simulate_post("/v1/join", headers={"Transfer-Encoding": "chunked"})
    assert told(answer)[:2] == (411, "invalid-request")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/join", 405),
        ("DELETE", "/v1/ca", 405),
        ("GET", "/", 404),
        ("POST", "/v1/x", 404),
    ],
)
def test_other_paths_and_methods_are_refused_as_plainly(
    stranger: testing.TestClient, method: str, path: str, status: int
) -> None:
    answer = stranger.simulate_request(method, path)
    assert told(answer)[:2] == (status, "invalid-request")


def test_no_token_reaches_the_log(
    operator: Operator, stranger: testing.TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    token = operator.token()
    with caplog.at_level(logging.DEBUG):
        post(stranger, json.dumps(request_to_join("web1", token)))
        post(stranger, json.dumps(request_to_join("web1", token)))
        post(stranger, json.dumps({**request_to_join("web2", token), "host": "-"}))
    assert "does not join" in caplog.text
    assert token.partition(".")[2] not in caplog.text


# how often


def test_who_asks_too_often_has_to_wait_and_nobody_else(core: Core, operator: Operator) -> None:
    clock = Clock()
    asked = client(Membership(core).join, Rate(0.5, 3, clock))
    body = json.dumps(request_to_join("web1", operator.token()))
    assert [post(asked, body).status_code for _ in range(4)] == [200, 200, 200, 429]
    answer = asked.simulate_get("/v1/ca", remote_addr="192.0.2.1")
    assert told(answer)[:2] == (429, "unavailable")
    assert answer.headers["retry-after"] == "2"
    assert post(asked, body, "192.0.2.2").status_code == 200
    clock.now += 2
    assert [post(asked, body).status_code for _ in range(2)] == [200, 429]


def test_of_ipv6_a_whole_network_counts_as_one() -> None:
    assert source_of("2001:db8:1:2::7") == source_of("2001:db8:1:2:ffff::1") == "2001:db8:1:2::/64"
    assert source_of("2001:db8:1:3::7") != source_of("2001:db8:1:2::7")
    assert source_of("::ffff:192.0.2.1") == source_of("192.0.2.1") == "192.0.2.1"
    assert plain("fe80::1%eth0") == "fe80::1"


def test_sources_are_forgotten_before_they_fill_the_memory(monkeypatch: Any) -> None:
    monkeypatch.setattr("cnsmo.core.join_limits.REMEMBERED", 10)
    rate = Rate(0.01, 1, Clock())
    assert [rate.wait(f"192.0.2.{number}") for number in range(100)] == [0.0] * 100
    assert len(rate._buckets) == 10
    assert rate.wait("192.0.2.99") > 0


def test_connections_are_counted_by_source() -> None:
    count = Count(2)
    assert [count.enter("a"), count.enter("a"), count.enter("a"), count.enter("b")] == [
        True, True, False, True,
    ]  # fmt: skip
    count.leave("a")
    assert count.enter("a")
