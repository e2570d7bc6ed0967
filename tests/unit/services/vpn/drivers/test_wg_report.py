# SPDX-License-Identifier: Apache-2.0
"""What is in force and does not work is said, and nothing else."""

import pytest

from cnsmo.services.vpn.desired import Peer, VpnDesired
from cnsmo.services.vpn.drivers.wg_report import problems
from cnsmo.services.vpn.drivers.wg_tools import WgDevice, WgPeer

NOW = 10_000.0
DESIRED = VpnDesired(
    driver="wireguard", name="backbone", addresses=(), listen_port=51820, mtu=1420, peers=()
)


def device(*peers: WgPeer) -> WgDevice:
    return WgDevice("own", 51820, False, {peer.public_key: peer for peer in peers})


def peer(handshake: int, tx: int, keepalive: int = 25) -> WgPeer:
    key = f"{handshake}-{tx}-{keepalive}"
    return WgPeer(key, None, frozenset({key}), handshake, 0, tx, keepalive)


@pytest.mark.parametrize(
    "peers",
    [
        (),
        (peer(0, 148),),  # just begun
        (peer(9_990, 10**6),),
        (peer(0, 10**6, keepalive=0),),  # nobody says that it should answer
        (peer(9_990, 10**6), peer(0, 10**6)),
    ],
)
def test_no_silence_is_seen_where_somebody_answers_or_need_not(peers: tuple[WgPeer, ...]) -> None:
    assert problems(DESIRED, device(*peers), {}, {}, NOW) == []


@pytest.mark.parametrize("peers", [(peer(0, 444),), (peer(9_000, 10**6), peer(0, 10**6))])
def test_a_host_that_nobody_answers_is_told(peers: tuple[WgPeer, ...]) -> None:
    (line,) = problems(DESIRED, device(*peers), {}, {}, NOW)
    assert line.startswith(f"none of the {len(peers)} peers")
    assert "UDP port 51820" in line


def test_what_cannot_be_routed_is_told() -> None:
    blocked = {"192.168.7.0/24": "eth1"}
    behind = {"192.168.8.0/24": None, "192.168.9.0/24": "lan0"}
    assert problems(DESIRED, device(), blocked, behind, NOW) == [
        "192.168.7.0/24 is routed to eth1 already, so not into the VPN: delete that route, or take "
        "192.168.7.0/24 off the VPN's routes",
        "gateway for 192.168.8.0/24: no interface of this host leads there",
    ]


def test_a_peer_without_a_key_is_told() -> None:
    desired = VpnDesired("wireguard", "backbone", (), 51820, 1420, (Peer("web", (), None, ()),))
    assert problems(desired, device(), {}, {}, NOW) == ["web has announced no key yet"]
