# SPDX-License-Identifier: Apache-2.0
"""Whatever a device holds, the steps make it what is wanted, and touch nothing else."""

import base64
import dataclasses
import ipaddress
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnsmo.model.errors import DriverError
from cnsmo.services.vpn.desired import Peer, VpnDesired
from cnsmo.services.vpn.drivers.wg_memory import PeerMemory
from cnsmo.services.vpn.drivers.wg_plan import (
    PATIENCE_SECONDS,
    SESSION_SECONDS,
    peer_steps,
    remember,
    wanted_peers,
)
from cnsmo.services.vpn.drivers.wg_tools import WgDevice, WgPeer

NOW = 1_000_000.0
KEYS = [base64.b64encode(bytes([number]) * 32).decode() for number in range(1, 40)]
NETWORKS = [f"10.66.0.{number}/32" for number in range(1, 12)]
ENDPOINTS = ["192.0.2.1:51820", "192.0.2.2:7", "[2001:db8::1]:51820"]


def desired_of(*peers: Peer) -> VpnDesired:
    return VpnDesired(
        driver="wireguard", name="backbone", addresses=("10.66.0.254/24",), listen_port=51820,
        mtu=1420, peers=peers,
    )  # fmt: skip


def device_of(*peers: WgPeer) -> WgDevice:
    return WgDevice(KEYS[-1], 51820, False, {peer.public_key: peer for peer in peers})


def peer_of(host: str, key: str, networks: tuple[str, ...] = (), **more: object) -> Peer:
    return Peer(
        host=host, addresses=(), endpoint=ENDPOINTS[0], allowed_ips=networks, public_key=key,
        **more,  # type: ignore[arg-type]
    )  # fmt: skip


def obey(device: WgDevice, steps: list[tuple[str, ...]]) -> WgDevice:
    """What ``wg set`` does (wg(8)): an address that a peer gets is taken from who had it."""
    peers = dict(device.peers)
    key = ""
    for args in steps:
        words = iter(args)
        for word in words:
            if word == "peer":
                key = next(words)
                peers.setdefault(key, WgPeer(key, None, frozenset()))
            elif word == "remove":
                del peers[key]
            elif word == "endpoint":
                peers[key] = dataclasses.replace(peers[key], endpoint=next(words))
            elif word == "persistent-keepalive":
                peers[key] = dataclasses.replace(peers[key], keepalive=int(next(words)))
            elif word == "preshared-key":
                assert next(words) == "/dev/null"
                peers[key] = dataclasses.replace(peers[key], preshared=False)
            elif word == "allowed-ips":
                given = frozenset(next(words).split(",")) - {""}
                peers = {
                    other: dataclasses.replace(peer, allowed_ips=peer.allowed_ips - given)
                    for other, peer in peers.items()
                }
                peers[key] = dataclasses.replace(peers[key], allowed_ips=given)
            else:
                pytest.fail(f"unknown word {word}")
    return dataclasses.replace(device, peers=peers)


@st.composite
def desireds(draw: st.DrawFn) -> VpnDesired:
    """Hosts h0..h5, each with keys and networks that nobody else has."""
    count = draw(st.integers(0, 6))
    keys = draw(st.permutations(KEYS[:20]))
    networks = draw(st.permutations(NETWORKS))
    peers = [
        Peer(
            host=f"h{number}",
            addresses=(),
            endpoint=draw(st.sampled_from([None, *ENDPOINTS])),
            allowed_ips=(networks[number],),
            keepalive=draw(st.sampled_from([None, 25])),
            public_key=keys[2 * number],
            next_public_key=draw(st.sampled_from(["", keys[2 * number + 1]])),
        )
        for number in range(count)
    ]
    return desired_of(*peers)


@st.composite
def devices(draw: st.DrawFn) -> WgDevice:
    keys = draw(st.lists(st.sampled_from(KEYS[:20]), unique=True, max_size=8))
    networks = draw(st.permutations(NETWORKS))
    return device_of(
        *(
            WgPeer(
                public_key=key,
                endpoint=draw(st.sampled_from([None, *ENDPOINTS])),
                allowed_ips=frozenset(networks[number : number + draw(st.integers(0, 1))]),
                handshake=draw(st.sampled_from([0, int(NOW) - 1000, int(NOW) - 1])),
                keepalive=draw(st.sampled_from([0, 7, 25])),
                preshared=draw(st.booleans()),
            )
            for number, key in enumerate(keys)
        )
    )


@st.composite
def memories(draw: st.DrawFn) -> Mapping[str, PeerMemory]:
    hosts = draw(st.lists(st.sampled_from([f"h{n}" for n in range(8)]), unique=True))
    return {
        host: PeerMemory(
            key=draw(st.sampled_from(KEYS[:20])),
            endpoint=draw(st.sampled_from([None, *ENDPOINTS])),
            next_key=draw(st.sampled_from(["", *KEYS[:20]])),
            next_since=draw(st.sampled_from([0.0, NOW - 1])),
        )
        for host in hosts
    }


@given(desireds(), devices(), memories())
def test_the_steps_lead_to_what_is_wanted_and_then_there_are_none(
    desired: VpnDesired, device: WgDevice, memory: Mapping[str, PeerMemory]
) -> None:
    wanted = wanted_peers(desired, device, memory, NOW)
    steps = peer_steps(wanted, device, memory, NOW)
    after = obey(device, [step.args for step in steps])
    assert after.peers.keys() == wanted.keys()
    for key, peer in wanted.items():
        assert after.peers[key].allowed_ips == peer.allowed_ips
        assert after.peers[key].keepalive == peer.keepalive
        assert not after.peers[key].preshared
    kept = remember(desired, wanted, after, memory, NOW)
    again = wanted_peers(desired, after, kept, NOW)
    assert peer_steps(again, after, kept, NOW) == []
    assert remember(desired, again, after, kept, NOW) == kept


@given(desireds(), devices(), memories())
def test_every_host_is_a_peer_under_exactly_one_key_that_it_announced(
    desired: VpnDesired, device: WgDevice, memory: Mapping[str, PeerMemory]
) -> None:
    wanted = wanted_peers(desired, device, memory, NOW)
    for peer in desired.peers:
        holders = [key for key, has in wanted.items() if has.host == peer.host and has.allowed_ips]
        assert len(holders) == 1
        assert holders[0] in (peer.public_key, peer.next_public_key)


@given(desireds(), memories())
def test_peers_that_are_as_wanted_are_not_mentioned(
    desired: VpnDesired, memory: Mapping[str, PeerMemory]
) -> None:
    empty = device_of()
    first = wanted_peers(desired, empty, {}, NOW)
    device = obey(empty, [step.args for step in peer_steps(first, empty, {}, NOW)])
    known = remember(desired, first, device, {}, NOW)
    fewer = dataclasses.replace(desired, peers=desired.peers[1:])
    steps = peer_steps(wanted_peers(fewer, device, known, NOW), device, known, NOW)
    if desired.peers:
        assert [step.args for step in steps] == [("peer", desired.peers[0].public_key, "remove")]


def test_a_new_key_is_added_before_the_old_one_goes_and_is_called_where_it_was() -> None:
    old = WgPeer(KEYS[0], "198.51.100.7:4711", frozenset({NETWORKS[0]}), handshake=int(NOW) - 5)
    memory = {"web": PeerMemory(key=KEYS[0], endpoint=ENDPOINTS[0])}
    desired = desired_of(peer_of("web", KEYS[1], (NETWORKS[0],)))
    device = device_of(old)
    steps = peer_steps(wanted_peers(desired, device, memory, NOW), device, memory, NOW)
    assert [step.repaired for step in steps] == [
        "peer web: new key",
        f"peer web ({KEYS[0]}) removed",
    ]
    assert steps[0].args == (
        "peer", KEYS[1], "endpoint", "198.51.100.7:4711", "allowed-ips", NETWORKS[0],
        "persistent-keepalive", "1", "peer", KEYS[1], "persistent-keepalive", "0",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("peer", "called"),
    [
        ({"calls": True}, ["1", "0"]),
        ({"calls": False}, []),
        ({"calls": True, "keepalive": 25}, ["25"]),
    ],
)
def test_a_new_peer_is_called_by_the_side_that_calls(
    peer: dict[str, object], called: list[str]
) -> None:
    desired = desired_of(peer_of("web", KEYS[0], (NETWORKS[0],), **peer))
    (step,) = peer_steps(wanted_peers(desired, None, {}, NOW), device_of(), {}, NOW)
    places = [at for at, word in enumerate(step.args) if word == "persistent-keepalive"]
    assert [step.args[at + 1] for at in places] == called


def test_a_next_key_is_not_configured_while_the_peer_answers_or_is_new() -> None:
    desired = desired_of(peer_of("web", KEYS[0], next_public_key=KEYS[1]))
    long_ago = {"web": PeerMemory(key=KEYS[0], next_key=KEYS[1], next_since=0)}
    answering = device_of(WgPeer(KEYS[0], None, frozenset(), handshake=int(NOW) - 5))
    assert list(wanted_peers(desired, answering, long_ago, NOW)) == [KEYS[0]]
    silent = device_of(WgPeer(KEYS[0], None, frozenset(), handshake=int(NOW) - SESSION_SECONDS - 1))
    just_now = {"web": PeerMemory(key=KEYS[0], next_key=KEYS[1], next_since=NOW - PATIENCE_SECONDS)}
    assert list(wanted_peers(desired, silent, just_now, NOW)) == [KEYS[0]]
    assert list(wanted_peers(desired, silent, long_ago, NOW)) == [KEYS[0], KEYS[1]]


def test_a_next_key_that_answered_is_the_key() -> None:
    desired = desired_of(peer_of("web", KEYS[0], (NETWORKS[0],), next_public_key=KEYS[1]))
    device = device_of(
        WgPeer(KEYS[0], None, frozenset({NETWORKS[0]}), handshake=7),
        WgPeer(KEYS[1], None, frozenset(), handshake=int(NOW)),
    )
    assert list(wanted_peers(desired, device, {}, NOW)) == [KEYS[1]]


def test_a_peer_that_calls_us_is_called_back_where_it_was_seen() -> None:
    behind_nat = Peer("web", (), None, (NETWORKS[0],), public_key=KEYS[0])
    desired = desired_of(behind_nat)
    device = device_of(WgPeer(KEYS[0], "198.51.100.7:4711", frozenset(NETWORKS[:1])))
    wanted = wanted_peers(desired, device, {}, NOW)
    memory = remember(desired, wanted, device, {}, NOW)
    assert memory["web"].seen == "198.51.100.7:4711"
    (step,) = peer_steps(wanted_peers(desired, None, memory, NOW), device_of(), memory, NOW)
    assert step.args[:4] == ("peer", KEYS[0], "endpoint", "198.51.100.7:4711")


def test_two_claims_to_one_network_or_key_are_refused() -> None:
    with pytest.raises(DriverError, match=r"a and b both claim 10\.66\.0\.1/32"):
        wanted_peers(
            desired_of(peer_of("a", KEYS[0], NETWORKS[:1]), peer_of("b", KEYS[1], NETWORKS[:1])),
            None, {}, NOW,
        )  # fmt: skip
    with pytest.raises(DriverError, match="a and b announce the same key"):
        wanted_peers(desired_of(peer_of("a", KEYS[0]), peer_of("b", KEYS[0])), None, {}, NOW)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("public_key", "short"),
        ("public_key", KEYS[0] + "\n"),
        ("endpoint", "web1.example.com:51820"),
        ("endpoint", "192.0.2.1:0"),
        ("endpoint", "192.0.2.1"),
        ("endpoint", "2001:db8::1:51820"),
        ("endpoint", "192.0.2.1:1\npersistent-keepalive"),
        ("allowed_ips", ("10.0.0.0/8\n",)),
        ("allowed_ips", ("10.0.0.1/8",)),
        ("allowed_ips", ("-x",)),
    ],
)
def test_nothing_unchecked_is_rendered(field: str, value: object) -> None:
    peer = dataclasses.replace(peer_of("web", KEYS[0]), **{field: value})
    with pytest.raises(DriverError):
        wanted_peers(desired_of(peer), None, {}, NOW)


def test_networks_are_compared_in_one_spelling() -> None:
    mapped = str(ipaddress.ip_network("::ffff:10.0.0.1/128"))
    desired = desired_of(peer_of("web", KEYS[0], ("FD66:0::1/128", mapped)))
    (peer,) = wanted_peers(desired, None, {}, NOW).values()
    assert peer.allowed_ips == {"fd66::1/128", mapped}
