# SPDX-License-Identifier: Apache-2.0
"""When a peer that does not answer is called again."""

import base64

import pytest

from cnsmo.services.vpn.drivers.wg_plan import WantedPeer
from cnsmo.services.vpn.drivers.wg_push import Pushes
from cnsmo.services.vpn.drivers.wg_tools import WgDevice, WgPeer

LESSER, GREATER = (base64.b64encode(bytes([byte]) * 32).decode() for byte in (1, 9))


def wanted(key: str, keepalive: int = 0, call: str | None = "192.0.2.1:51820") -> dict:
    peer = WantedPeer("web1", key, call, frozenset({"10.66.0.1/32"}), keepalive, call=call)
    return {key: peer}


def device(key: str, handshake: int = 0) -> WgDevice:
    return WgDevice("", 51820, False, {key: WgPeer(key, None, frozenset(), handshake)})


def pushed(peers: dict, own_key: str, seconds: float, has: WgDevice) -> list[float]:
    """When the peer is called again, asked each 0.05 s."""
    pushes = Pushes()
    moments = [step * 0.05 for step in range(round(seconds / 0.05))]
    return [round(now, 2) for now in moments if pushes.due(peers, has, own_key, now)]


def test_a_peer_that_only_this_host_can_call_is_called_five_times() -> None:
    found = pushed(wanted(LESSER, keepalive=25), GREATER, 60, device(LESSER))
    assert found == [0.25, 0.75, 1.75, 3.75, 7.75]


def test_of_two_that_can_call_each_other_the_lesser_key_calls_again() -> None:
    assert pushed(wanted(GREATER), LESSER, 60, device(GREATER)) == [1.0, 3.0]
    assert pushed(wanted(LESSER), GREATER, 60, device(LESSER)) == []


@pytest.mark.parametrize("keepalive", [0, 25])
def test_who_answered_is_left_alone(keepalive: int) -> None:
    assert pushed(wanted(GREATER, keepalive), LESSER, 10, device(GREATER, handshake=1)) == []


@pytest.mark.parametrize("keepalive", [0, 25])
def test_who_cannot_be_called_is_not(keepalive: int) -> None:
    assert pushed(wanted(GREATER, keepalive, call=None), LESSER, 10, device(GREATER)) == []


def test_it_says_when_to_look_again() -> None:
    pushes = Pushes()
    assert pushes.again(0.0) is None
    pushes.due(wanted(GREATER), device(GREATER), LESSER, 0.0)
    assert pushes.again(0.4) == pytest.approx(0.6)
    pushes.due(wanted(GREATER), device(GREATER, handshake=1), LESSER, 0.5)
    assert pushes.again(0.5) is None
