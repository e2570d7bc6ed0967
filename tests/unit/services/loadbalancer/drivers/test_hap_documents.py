# SPDX-License-Identifier: Apache-2.0
"""From a document to haproxy.cfg: what is accepted can be rendered, and adds nothing of its own."""

import copy
import string
from typing import Any

import pytest
from pydantic import ValidationError

from cnsmo.services.loadbalancer.desired import LoadBalancerDesired
from cnsmo.services.loadbalancer.drivers import hap_text
from cnsmo.services.loadbalancer.drivers.hap_render import render
from tests.unit.services.loadbalancer.drivers.hap_words import HOST, shape
from tests.unit.services.loadbalancer.scenes import balancer, compiled, deployment

EVERYTHING: dict[str, Any] = {
    "listen": [443, "10.1.0.11:8443", "[fd00::5]:9443"],
    "pool": {"group": "web", "port": 8080, "weights": {"web": 3}, "backup": "web3"},
    "algorithm": "leastconn",
    "check": {"http": "/up", "method": "HEAD", "status": ["200-299", 404], "host": "www.example",
              "interval": "200ms", "timeout": "100ms", "rise": 1, "fall": 5},
    "persistence": "cookie",
    "cookie": "SRV",
    "tls": {"certificates": ["/etc/ssl/a.pem", "/etc/ssl/b.pem"], "minimum": "1.3",
            "client_ca": "/etc/ssl/ca.pem", "redirect": 80},
    "timeouts": {"connect": 1, "client": 2, "server": 3, "request": 4, "tunnel": 5,
                 "keep_alive": 6},
    "max_connections": 1000,
    "proxy_protocol": {"accept": True, "send": "v2"},
    "drain": "1m",
    "headers": {"request": {"X-One": "1"}, "response": {"X-Two": "2"}},
    "routes": [{"name": "api", "host": "api.example", "path": "/v1",
                "pool": {"hosts": "db1", "port": 9000}}],
    "vip": "10.1.0.100/24",
    "allow": ["192.0.2.0/24", "fd00::/8"],
    "driver": "haproxy",
}  # fmt: skip
"""Each key of a load balancer."""
WORDS: dict[tuple[Any, ...], tuple[str, ...]] = {
    ("check", "http"): ("/{}", "/a{}", "/a{}b"),
    ("check", "host"): ("{}", "{}a", "a{}", "a{}b", "{}.a"),
    ("cookie",): ("{}", "{}a", "a{}"),
    ("tls", "certificates"): ("/{}", "/a{}", "/a/{}/b", "/a/{0}{0}/b"),
    ("tls", "client_ca"): ("/{}", "/a{}", "/a{}b"),
    ("headers", "request"): ("{}", "{}a", "a{}", "a{}b"),
    ("routes", 0, "name"): ("{}", "{}a", "a{}"),
    ("routes", 0, "host"): ("{}", "{}a", "a{}", "{}.a", "{}a.b"),
    ("routes", 0, "path"): ("/{}", "/a{}", "/a{}b"),
}
"""Where a document has words that are somebody's own, and how a character may stand in them."""
LENGTHS = (1, 2, 63, 64, 65, 127, 128, 253, 254, 255, 256, 999, 1000, 1001, 1024, 4097)


def accepted(path: tuple[Any, ...], value: Any) -> LoadBalancerDesired | None:
    """What comes of the document with another value there; None where it is refused."""
    made = copy.deepcopy(EVERYTHING)
    place: Any = made
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    try:
        row = balancer(**made)
    except ValidationError:
        return None
    return compiled(deployment(row))


def whole(desired: LoadBalancerDesired) -> list[tuple[int, tuple[str, ...]]]:
    """What haproxy.cfg looks like; fails where something in it, or a file, cannot be rendered."""
    assert desired.tls
    for file in (*desired.tls.certificates, desired.tls.client_ca):
        assert hap_text.file(file) == file
    return shape(render(desired, HOST).text())


def named(path: tuple[Any, ...], word: str) -> Any:
    """A word as it is written there; a header's value has a name."""
    return {"X-One": word} if path == ("headers", "request") else word


@pytest.mark.parametrize("path", WORDS, ids=lambda path: ".".join(map(str, path)))
def test_each_character_that_a_document_may_have_can_be_rendered(path: tuple[Any, ...]) -> None:
    usual, taken = len(whole(compiled(deployment(balancer(**EVERYTHING))))), 0
    for char in (*string.printable, "\0", "\x7f", "\u00e9"):
        for form in WORDS[path]:
            if desired := accepted(path, named(path, form.format(char))):
                taken += 1
                assert len(whole(desired)) == usual, form.format(char)
    assert taken > 36


@pytest.mark.parametrize("path", WORDS, ids=lambda path: ".".join(map(str, path)))
def test_each_length_that_a_document_may_have_can_be_rendered(path: tuple[Any, ...]) -> None:
    beginning, taken = "/" if WORDS[path][0].startswith("/") else "", 0
    for length in LENGTHS:
        if desired := accepted(path, named(path, (beginning + "a" * length)[:length])):
            taken += 1
            assert whole(desired)
    assert taken >= 2


def test_a_host_may_have_many_labels_as_far_as_dns_goes() -> None:
    long = ".".join(["a" * 61] * 4)
    assert accepted(("routes", 0, "host"), f"{long}.abcd") is not None
    assert accepted(("routes", 0, "host"), f"{long}.abcdefg") is None
    assert accepted(("check", "host"), f"{long}.abcdefg") is None
