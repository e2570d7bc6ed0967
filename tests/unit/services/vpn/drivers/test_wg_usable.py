# SPDX-License-Identifier: Apache-2.0
"""A peer that cannot be beside the others is left out and told; they stay as they are."""

import dataclasses

import pytest

from cnsmo.services.vpn.desired import Peer
from cnsmo.services.vpn.drivers.wg_memory import PeerMemory
from cnsmo.services.vpn.drivers.wg_plan import PATIENCE_SECONDS, wanted_peers
from cnsmo.services.vpn.drivers.wg_usable import usable
from tests.unit.services.vpn.drivers.test_wg_plan import KEYS, NETWORKS, NOW, desired_of, peer_of

OWN = KEYS[:2]
WEB1 = peer_of("web1", KEYS[2], NETWORKS[:1], next_public_key=KEYS[3])
WEB2 = peer_of("web2", KEYS[4], NETWORKS[1:2])
WEB3 = peer_of("web3", KEYS[5], NETWORKS[2:3])

LEFT_OUT: dict[str, Peer] = {
    "the same key as web1": dataclasses.replace(WEB2, public_key=KEYS[2]),
    "the same key as web1 ": dataclasses.replace(WEB2, public_key=KEYS[3]),
    "the same key as this host": dataclasses.replace(WEB2, public_key=OWN[1]),
    "it claims 10.66.0.1/32, as web1": dataclasses.replace(WEB2, allowed_ips=NETWORKS[:2]),
    "not a WireGuard key": dataclasses.replace(WEB2, public_key="x"),
    "is not an endpoint": dataclasses.replace(WEB2, endpoint="web2:1"),
    "allowed IPs": dataclasses.replace(WEB2, allowed_ips=("10.0.0.1/8",)),
}
NEXT_LEFT_OUT: dict[str, str] = {
    "the same key as web2": KEYS[4],
    "the same key as web1": KEYS[2],
    "the same key as web1 ": KEYS[3],
    "the same key as this host": OWN[0],
    "not a WireGuard key": "x",
}


@pytest.mark.parametrize("why", LEFT_OUT)
def test_a_peer_that_cannot_be(why: str) -> None:
    found, (problem,) = usable(desired_of(WEB1, LEFT_OUT[why], WEB3), OWN)
    assert found.peers == (WEB1, WEB3)
    assert problem.startswith("web2 is left out: ")
    assert why.strip() in problem


@pytest.mark.parametrize("why", NEXT_LEFT_OUT)
def test_a_next_key_that_cannot_be(why: str) -> None:
    wrong = dataclasses.replace(WEB2, next_public_key=NEXT_LEFT_OUT[why])
    found, (problem,) = usable(desired_of(WEB1, wrong, WEB3), OWN)
    assert found.peers == (WEB1, WEB2, WEB3)
    assert problem.startswith("the next key of web2 is left out: ")
    assert why.strip() in problem


def test_peers_as_they_should_be_stay_as_they_are() -> None:
    silent = peer_of("web9", "")
    desired = desired_of(WEB1, WEB2, silent)
    assert usable(desired, OWN) == (desired, ())


@pytest.mark.parametrize(
    "lie", [*LEFT_OUT.values(), *(dataclasses.replace(WEB2, next_public_key=it)
                                  for it in NEXT_LEFT_OUT.values())],
)  # fmt: skip
def test_whatever_one_says_the_others_converge_even_when_it_is_silent(lie: Peer) -> None:
    found, _problems = usable(desired_of(WEB1, lie, WEB3), OWN)
    long_ago = NOW - PATIENCE_SECONDS - 1
    memory = {
        peer.host: PeerMemory(
            key=peer.public_key, next_key=peer.next_public_key, next_since=long_ago
        )
        for peer in (WEB1, lie, WEB3)
    }
    wanted = wanted_peers(found, None, memory, NOW)
    assert {"web1", "web3"} <= {peer.host for peer in wanted.values()}
    assert not wanted.keys() & set(OWN)
