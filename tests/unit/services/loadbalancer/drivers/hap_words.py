# SPDX-License-Identifier: Apache-2.0
"""haproxy.cfg as HAProxy reads it, and desired states to render."""

import dataclasses
from typing import Any

from cnsmo.services.loadbalancer.desired import (
    Algorithm,
    Bind,
    Check,
    Checking,
    Headers,
    LoadBalancerDesired,
    Mode,
    Persistence,
    Pool,
    Route,
    Server,
    Tls,
    Vip,
)
from cnsmo.services.loadbalancer.drivers.hap_host import Host, Material

HOST = Host(
    label="shop/edge1/www",
    user="haproxy",
    group="haproxy",
    secret="ab" * 32,
    material=Material("../certificates/list-1", "../certificates/ca.pem"),
)
WEB1 = Server("web1", "10.66.0.1", 8080)
WEB2 = Server("web2", "fd66::2", 8080, weight=3, backup=True, drain=True)
PLAIN = LoadBalancerDesired("haproxy", Mode.HTTP, (Bind("", 80),), (Pool("www", (WEB1, WEB2)),))
FULL = LoadBalancerDesired(
    "haproxy",
    Mode.HTTP,
    binds=(Bind("10.0.0.5", 443), Bind("fd00::5", 8443)),
    pools=(
        Pool(
            "www",
            (WEB1, WEB2),
            check=Check(Checking.HTTP, path="/healthz", host="www.example"),
            persistence=Persistence.COOKIE,
            cookie="SRV",
            proxy="v2",
        ),
        Pool("api", (WEB1,), Algorithm.SOURCE, persistence=Persistence.SOURCE),
    ),
    routes=(Route("api", ("api.example", "rest.example"), "/v1"),),
    tls=Tls(("/etc/ssl/www.pem",), client_ca="/etc/ssl/ca.pem", redirects=(Bind("", 80),)),
    max_connections=1000,
    accept_proxy=True,
    headers=Headers(request=(("X-One", "a b"),), response=(("X-Two", "it's"),)),
    allow=("10.0.0.0/8", "fd00::/8"),
    vip=Vip("10.0.0.100/24", "10.0.0.5", ("10.0.0.6",), 51, 100),
)
"""Something of everything that is rendered."""


def words(line: str) -> list[str]:
    """A line's words (HAProxy's configuration manual, 2.2); fails where HAProxy would."""
    found: list[str] = []
    word: str | None = None
    quote = ""
    rest = iter(line)
    for char in rest:
        if quote == "'":
            quote, word = ("", word) if char == "'" else (quote, (word or "") + char)
        elif char == "\\":
            word = (word or "") + next(rest)
        elif char == '"':
            quote, word = "" if quote else '"', word or ""
        elif char == "'" and not quote:
            quote, word = "'", word or ""
        elif char in " \t" and not quote:
            found += [] if word is None else [word]
            word = None
        elif char == "#" and not quote:
            raise AssertionError(f"a comment: {line!r}")
        elif char == "$" and quote:
            raise AssertionError(f"a variable: {line!r}")
        else:
            assert char.isprintable(), line
            word = (word or "") + char
    assert not quote, line
    return found + ([] if word is None else [word])


def shape(text: str) -> list[tuple[int, tuple[str, ...]]]:
    """How many words each line has, and the keywords that it begins with; sorted."""
    lines = [words(line) for line in text.split("\n")]
    return sorted((len(it), tuple(it[: 1 + (it[:1] > [] and it[0] in PAIRED)])) for it in lines)


PAIRED = {"timeout", "option", "no", "stats", "stick", "balance", "hash-type", "http-request",
          "http-response", "http-check", "tcp-request"}  # fmt: skip
"""Keywords that have a second one."""


def replaced(thing: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A thing with another value at the end of a path of fields and indices."""
    if not path:
        return value
    first, *rest = path
    if isinstance(first, int):
        items = list(thing)
        items[first] = replaced(items[first], tuple(rest), value)
        return tuple(items)
    return dataclasses.replace(
        thing, **{first: replaced(getattr(thing, first), tuple(rest), value)}
    )


def leaves(thing: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values in a desired state; truths are not rendered as what they are."""
    if dataclasses.is_dataclass(thing):
        fields = dataclasses.fields(thing)
        return [it for f in fields for it in leaves(getattr(thing, f.name), (*path, f.name))]
    if isinstance(thing, tuple):
        return [it for i, item in enumerate(thing) for it in leaves(item, (*path, i))]
    return [] if isinstance(thing, bool) or thing is None else [path]
