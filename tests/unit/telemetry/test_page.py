# SPDX-License-Identifier: Apache-2.0
"""What is served over HTTP, where, and to what question."""

import json
import socket
from collections.abc import Callable, Iterator

import pytest
from prometheus_client import CollectorRegistry, Gauge

from cnsmo.telemetry.health import Check, Health, Level
from cnsmo.telemetry.post import Post
from tests.beds.ports import PortLease, accepts
from tests.eventually import eventually
from tests.scrape import ask, health, scrape

FINE = Health.of([Check("database")])


@pytest.fixture
def port() -> Iterator[int]:
    with PortLease() as lease:
        yield lease.port


@pytest.fixture
def serve(port: int) -> Iterator[Callable[..., Post]]:
    """serve(Health, address): figures and that health, at the port."""
    posts: list[Post] = []

    def registry() -> CollectorRegistry:
        made = CollectorRegistry()
        Gauge("cnsmo_sample", "Something", registry=made).set(3)
        return made

    def start(told: Health, address: str = "127.0.0.1") -> Post:
        posts.append(Post((address, port), "metrics", lambda: 0.05, registry, lambda: told))
        posts[-1].start()
        return posts[-1]

    yield start
    for post in posts:
        post.stop()


def test_figures_and_health_are_at_their_places_and_nothing_elsewhere(
    serve: Callable[..., Post], port: int
) -> None:
    serve(FINE)
    eventually(lambda: accepts(port))
    assert scrape(port) == {("cnsmo_sample",): 3.0}
    assert health(port) == (200, "ok", {"database": {"status": "ok", "reason": ""}})
    assert ask(port, "/")[0] == 404
    assert ask(port, "/healthz", method="POST")[0] == 405
    assert ask(port, "/healthz", method="HEAD") == (200, "")


@pytest.mark.parametrize(
    ("levels", "status", "word"),
    [
        ([], 200, "ok"),
        ([Level.OK, Level.DEGRADED], 200, "degraded"),
        ([Level.FAILING, Level.DEGRADED], 503, "failing"),
    ],
    ids=str,
)
def test_the_worst_check_decides(
    serve: Callable[..., Post], port: int, levels: list[Level], status: int, word: str
) -> None:
    serve(Health.of(Check(str(n), level, "why") for n, level in enumerate(levels)))
    eventually(lambda: accepts(port))
    assert health(port)[:2] == (status, word)


def test_it_serves_ipv6_and_only_the_address_that_is_named(
    serve: Callable[..., Post], port: int
) -> None:
    serve(FINE, "::1")
    status, text = eventually(lambda: answered(port))
    assert (status, json.loads(text)["status"]) == (200, "ok")
    assert not accepts(port), "not on IPv4"


def answered(port: int) -> tuple[int, str] | None:
    try:
        return ask(port, "/healthz", "::1")
    except OSError:
        return None


def test_a_port_that_is_taken_is_tried_again_and_given_back_at_the_end(
    serve: Callable[..., Post], port: int, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", port)):
        post = serve(FINE)
        eventually(lambda: "figures cannot be served at 127.0.0.1" in caplog.text)
    eventually(lambda: accepts(port) and scrape(port))
    post.stop()
    assert not accepts(port)
