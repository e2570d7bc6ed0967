# SPDX-License-Identifier: Apache-2.0
"""Cores and callers of two releases: each call is said so that an older core takes it."""

from collections.abc import Callable, Iterator
from typing import Any

import oslo_messaging
import pytest
from oslo_config import cfg

from cnsmo.bus import serving, transport, versions
from cnsmo.bus.clients import CoreClient, OperatorClient
from cnsmo.bus.envelope import answers
from cnsmo.bus.versions import Versions
from cnsmo.model.errors import CnsmoError, InvalidRequest
from cnsmo.model.messages import Heartbeat, HeartbeatAnswer

NOW = "2026-11-23T12:00:00Z"
BEAT = Heartbeat(applied={"vpn": 1}, made_at=NOW)


class Release:
    """The agents' side of a core of some release; it takes what that release knows."""

    def __init__(self, version: str) -> None:
        self.target = oslo_messaging.Target(version=version)
        self.heard: list[dict[str, Any]] = []

    @answers
    def heartbeat(self, ctxt: dict[str, Any], beat: dict[str, Any]) -> HeartbeatAnswer:
        """Older releases refuse keys that they do not know."""
        if "made_at" in beat and self.target.version < "1.2":
            raise InvalidRequest("made_at: no such key")
        self.heard.append(beat)
        return HeartbeatAnswer(head=1, confirmed={})

    @answers
    def certify(self, ctxt: dict[str, Any], csr: str) -> dict[str, Any]:
        """Since 1.1."""
        if self.target.version < "1.1":
            raise AssertionError("oslo.messaging has not looked at the version")
        return {"certificate": csr, "authorities": "", "life": 1.0}


class Before(CoreClient):
    """An agent's side as it was in 1.1: it names its version in every call."""

    VERSION = "1.1"
    SINCE = {"certify": "1.1", "heartbeat": "1.1"}


@pytest.fixture
def release(conf: cfg.ConfigOpts) -> Iterator[Callable[[str], Release]]:
    """Starts cores of a release; they share the calls with all others."""
    servers = []

    def start(version: str) -> Release:
        made = Release(version)
        bus = transport.calls(conf)
        server = serving.server(bus, transport.EXCHANGE, transport.AGENTS_TOPIC, "core", made)
        server.start()
        servers.append(server)
        return made

    yield start
    for server in servers:
        transport.end(server)


def test_a_new_agent_tells_an_old_core_what_that_understands(
    conf: cfg.ConfigOpts, release: Callable[[str], Release]
) -> None:
    core, client = release("1.1"), CoreClient(conf, timeout=10)
    assert client.heartbeat(BEAT).head == 1
    assert client.certify("x").certificate == "x"
    assert core.heard == [{"applied": {"vpn": 1}}]


def test_an_old_agent_is_answered_by_a_new_core(
    conf: cfg.ConfigOpts, release: Callable[[str], Release]
) -> None:
    core, client = release("1.3"), Before(conf, timeout=10)
    assert client.heartbeat(Heartbeat(applied={"vpn": 1})).head == 1
    assert client.certify("x").certificate == "x"
    assert core.heard[0]["applied"] == {"vpn": 1}


def test_with_cores_of_two_releases_every_call_is_answered(
    conf: cfg.ConfigOpts, release: Callable[[str], Release]
) -> None:
    old, new = release("1.1"), release("1.2")
    client, before = CoreClient(conf, timeout=10), Before(conf, timeout=10)
    for _number in range(20):
        client.heartbeat(BEAT)
        before.heartbeat(Heartbeat(applied={"vpn": 1}))
    assert len(old.heard) + len(new.heard) == 40
    assert all("made_at" not in beat for beat in old.heard)


def test_what_an_old_core_refused_is_said_again_after_a_while(
    conf: cfg.ConfigOpts,
    release: Callable[[str], Release],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old, client = release("1.1"), CoreClient(conf, timeout=10)
    client.heartbeat(BEAT)
    monkeypatch.setattr(old.target, "version", "1.2")  # the core was upgraded
    client.heartbeat(BEAT)
    monkeypatch.setattr(versions.time, "monotonic", lambda: 1e9)
    client.heartbeat(BEAT)
    assert ["made_at" in beat for beat in old.heard] == [False, False, True]


def test_who_is_held_at_a_version_says_nothing_newer(
    conf: cfg.ConfigOpts, release: Callable[[str], Release]
) -> None:
    conf.set_override("upgrade_levels", {"cnsmo-core": "1.0", "cnsmo-operator": "1.3"}, "bus")
    core, client = release("1.3"), CoreClient(conf, timeout=10)
    client.heartbeat(BEAT)
    assert core.heard == [{"applied": {"vpn": 1}}]
    with pytest.raises(CnsmoError, match=r"certify needs cores that speak version 1\.1"):
        client.certify("x")
    with pytest.raises(CnsmoError, match=r"adjust needs .* 1.4, and not all do, or .* at 1.3"):
        OperatorClient(conf).adjust("shop", "vpn", ["a"], "web1", {})


def test_a_call_that_an_old_core_does_not_have_at_all_says_so(
    conf: cfg.ConfigOpts, release: Callable[[str], Release]
) -> None:
    release("1.0")
    client = CoreClient(conf, timeout=10)
    with pytest.raises(CnsmoError, match="upgrade all cores first"):
        client.certify("x")


def test_a_level_that_is_no_version_is_refused() -> None:
    for cap in ("new", "1", "0.9", "1.2.3"):
        with pytest.raises(InvalidRequest, match="upgrade_levels"):
            Versions("1.4", cap, {}, {})
    assert Versions("1.4", "9.9", {}, {}).fit("x", {}) == ("1.0", {})


@pytest.mark.parametrize("client", [CoreClient, OperatorClient])
def test_no_call_is_newer_than_its_interface(client: type[CoreClient | OperatorClient]) -> None:
    newest = versions.number(client.VERSION)
    told = [
        *client.SINCE.values(),
        *(it for keys in client.FIELDS.values() for it in keys.values()),
    ]
    assert all(versions.number(version) <= newest for version in told)
    assert {*client.SINCE, *client.FIELDS} <= set(dir(client))
