# SPDX-License-Identifier: Apache-2.0
"""Which silent peers are called when."""

import base64

import pytest

from cnsmo.services.vpn.drivers.wg_plan import WantedPeer
from cnsmo.services.vpn.drivers.wg_push import Pushes
from cnsmo.services.vpn.drivers.wg_tools import WgDevice, WgPeer

KEY = base64.b64encode(b"1" * 32).decode()
CALL = "192.0.2.1:51820"


def wanted(calls: bool, keepalive: int = 0, call: str | None = CALL) -> dict[str, WantedPeer]:
    networks = frozenset({"10.66.0.1/32"})
    return {KEY: WantedPeer("web1", KEY, call, networks, keepalive, call=call, calls=calls)}


def device(handshake: int = 0, missing: bool = False) -> WgDevice:
    peers = {} if missing else {KEY: WgPeer(KEY, None, frozenset(), handshake)}
    return WgDevice("", 51820, False, peers)


def calls(peers: dict[str, WantedPeer], has: WgDevice, seconds: float = 60) -> dict[float, bool]:
    """When the peer is called, asked each 0.05 s, and whether it is removed for it."""
    pushes = Pushes()
    made = {}
    for step in range(round(seconds / 0.05)):
        if words := pushes.due(peers, has, step * 0.05):
            made[round(step * 0.05, 2)] = words[0] == ("peer", KEY, "remove")
    return made


@pytest.mark.parametrize("keepalive", [0, 25])
def test_the_caller_calls_at_once_and_then_soon_again(keepalive: int) -> None:
    found = calls(wanted(calls=True, keepalive=keepalive), device())
    assert found == {0.0: False, 0.25: True, 0.75: True, 1.75: True, 3.75: True, 7.75: True}


def test_a_peer_that_is_being_added_was_called_by_that() -> None:
    pushes = Pushes()
    assert pushes.due(wanted(calls=True), device(missing=True), 0.0) == []
    assert pushes.again(0.0) == pytest.approx(0.25)
    (remove, add) = pushes.due(wanted(calls=True), device(), 0.25)
    assert remove == ("peer", KEY, "remove")
    assert " ".join(add) == (
        f"peer {KEY} endpoint {CALL} allowed-ips 10.66.0.1/32 "
        f"persistent-keepalive 1 peer {KEY} persistent-keepalive 0"
    )


def test_the_other_side_calls_once_and_never_removes_a_peer() -> None:
    assert calls(wanted(calls=False), device()) == {1.0: False}


@pytest.mark.parametrize("calling", [True, False])
def test_who_answered_is_left_alone(calling: bool) -> None:
    assert calls(wanted(calling), device(handshake=1), 10) == {}


@pytest.mark.parametrize("calling", [True, False])
def test_who_cannot_be_called_is_not(calling: bool) -> None:
    assert calls(wanted(calling, call=None), device(), 10) == {}


def test_who_answered_and_fell_silent_again_is_called_anew() -> None:
    pushes = Pushes()
    assert pushes.due(wanted(calls=True), device(), 0.0) != []
    assert pushes.due(wanted(calls=True), device(handshake=1), 0.5) == []
    assert pushes.again(0.5) is None
    ((*_peer, how, seconds),) = pushes.due(wanted(calls=True), device(), 9.0)
    assert (how, seconds) == ("persistent-keepalive", "0")


def test_it_says_when_to_look_again() -> None:
    pushes = Pushes()
    assert pushes.again(0.0) is None
    pushes.due(wanted(calls=False), device(), 0.0)
    assert pushes.again(0.4) == pytest.approx(0.6)
    pushes.due(wanted(calls=False), device(), 1.0)
    assert pushes.again(1.0) is None
