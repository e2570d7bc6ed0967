# SPDX-License-Identifier: Apache-2.0
"""What holds for every deployment that can be declared, whatever its hosts are like."""

import ipaddress
from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from cnsmo.model.names import IPAddress
from cnsmo.model.resource import Row
from cnsmo.services.vpn.compile import peer_hosts
from cnsmo.services.vpn.desired import Peer, VpnDesired
from tests.unit.services.vpn.scenes import VPN, deployments, view

many = settings(max_examples=40)


def compiled(rows: list[Row]) -> dict[str, VpnDesired]:
    scene = view(rows)
    found: dict[str, VpnDesired] = {}
    for name in scene.hosts:
        for desired in VPN.compile(scene, name).values():
            assert isinstance(desired, VpnDesired)
            found[name] = desired
    return found


def own(desired: VpnDesired) -> list[IPAddress]:
    return [ipaddress.ip_interface(text).ip for text in desired.addresses]


def leads(desired: VpnDesired, address: IPAddress) -> Peer | None:
    """The peer that a packet to that address goes to, and that one from there must come from."""
    best: tuple[int, Peer] | None = None
    for peer in desired.peers:
        for text in peer.allowed_ips:
            network = ipaddress.ip_network(text)
            longer = best is None or network.prefixlen > best[0]
            if network.version == address.version and address in network and longer:
                best = (network.prefixlen, peer)
    return best[1] if best else None


def arrives(
    hosts: Mapping[str, VpnDesired], start: str, end: str, source: IPAddress, target: IPAddress
) -> bool:
    """Whether a packet gets from host to host, each of which checks where it came from."""
    at = start
    for _hop in range(4):
        if at == end:
            return True
        peer = leads(hosts[at], target)
        if peer is None:
            return False
        back = leads(hosts[peer.host], source)
        if back is None or back.host != at:
            return False
        at = peer.host
    return False


@many
@given(rows=deployments(), data=st.data())
def test_the_same_rows_in_any_order_give_the_same(rows: list[Row], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(rows))
    assert compiled(rows) == compiled(shuffled)


@many
@given(rows=deployments())
def test_who_has_a_peer_is_its_peer(rows: list[Row]) -> None:
    hosts = compiled(rows)
    pairs = {(name, peer.host) for name, desired in hosts.items() for peer in desired.peers}
    assert pairs == {(there, here) for here, there in pairs}
    assert all(here != there for here, there in pairs)


@many
@given(rows=deployments())
def test_no_network_is_allowed_to_two_peers_of_a_host(rows: list[Row]) -> None:
    for desired in compiled(rows).values():
        allowed = [text for peer in desired.peers for text in peer.allowed_ips]
        assert len(allowed) == len(set(allowed))
        assert len({peer.host for peer in desired.peers}) == len(desired.peers)


@many
@given(rows=deployments())
def test_every_members_address_leads_to_one_peer_or_is_a_problem(rows: list[Row]) -> None:
    hosts = compiled(rows)
    for name, desired in hosts.items():
        for other, theirs in hosts.items():
            if other == name:
                continue
            for address in own(theirs):
                peer = leads(desired, address)
                assert peer is not None or desired.problems, (name, other)
                exact = [
                    found.host
                    for found in desired.peers
                    if str(ipaddress.ip_network(address)) in found.allowed_ips
                ]
                assert len(exact) <= 1


@many
@given(rows=deployments())
def test_a_packet_between_any_two_members_arrives_or_somebody_says_why_not(
    rows: list[Row],
) -> None:
    hosts = compiled(rows)
    for here, mine in hosts.items():
        for there, theirs in hosts.items():
            for source, target in zip(own(mine), own(theirs), strict=True):
                if not arrives(hosts, here, there, source, target):
                    assert mine.problems or theirs.problems, (here, there)


@many
@given(rows=deployments())
def test_a_routed_subnet_is_reached_and_answers_or_somebody_says_why_not(rows: list[Row]) -> None:
    hosts = compiled(rows)
    for gateway, theirs in hosts.items():
        for subnet in theirs.gateway_for:
            inside = ipaddress.ip_network(subnet)[7]
            for name, mine in hosts.items():
                source = next((ip for ip in own(mine) if ip.version == inside.version), None)
                if name == gateway or source is None:
                    continue
                there = arrives(hosts, name, gateway, source, inside)
                back = arrives(hosts, gateway, name, inside, source)
                assert there == back
                assert there or mine.problems or theirs.problems, (name, gateway)


@many
@given(rows=deployments())
def test_of_two_peers_one_calls_and_who_cannot_be_called_keeps_its_way_open(
    rows: list[Row],
) -> None:
    hosts = compiled(rows)
    for name, desired in hosts.items():
        for peer in desired.peers:
            back = next(found for found in hosts[peer.host].peers if found.host == name)
            callable_ = peer.endpoint or back.endpoint
            assert callable_ or any(peer.host in problem for problem in desired.problems)
            assert (peer.keepalive is None) == (back.endpoint is not None or desired.waiting)
            both_have_a_place = not desired.waiting and not hosts[peer.host].waiting
            assert peer.calls + back.calls == bool(callable_ and both_have_a_place)
            assert not peer.calls or peer.endpoint


@many
@given(rows=deployments())
def test_who_passes_packets_on_knows_it(rows: list[Row]) -> None:
    hosts = compiled(rows)
    for name, desired in hosts.items():
        carried = [
            relay
            for other in hosts.values()
            for member, relay in other.relayed
            if relay == name and member != name
        ]
        if carried or desired.gateway_for:
            assert desired.forward, name


@many
@given(rows=deployments())
def test_a_host_that_is_no_member_gets_nothing(rows: list[Row]) -> None:
    scene = view(rows)
    spec = VPN.Spec.model_validate(scene.get("vpn", "backbone").body)
    hosts = compiled(rows)
    for name, known in scene.hosts.items():
        belongs = VPN.concerns("backbone", spec, known)
        assert (name in hosts) == belongs
        assert bool(VPN.units(scene, name)) == belongs


@many
@given(rows=deployments(), data=st.data())
def test_who_the_peers_are_can_be_asked_alone(rows: list[Row], data: st.DataObject) -> None:
    members = [row for row in rows if row.kind == "vpn.member"]
    late = data.draw(st.sampled_from([None, *members]))
    rows = [row for row in rows if row is not late]
    scene = view(rows)
    spec = VPN.Spec.model_validate(scene.get("vpn", "backbone").body)
    for name, desired in compiled(rows).items():
        peers = {peer.host for peer in desired.peers}
        assert peer_hosts(scene, "backbone", spec, name) == peers
