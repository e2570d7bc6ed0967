# SPDX-License-Identifier: Apache-2.0
"""What a host's VPNs look like, in deployments drawn by hand."""

from typing import Any

import pytest

from cnsmo.model.resource import OPERATOR, Row, renewal_kind
from cnsmo.services.vpn.desired import Peer, VpnDesired
from tests.unit.services.vpn.scenes import VPN, admitted, host, instance, member, row, state, view

EAST1 = host("east1", "edge", site="east", private=["10.1.0.5/24"], public=["203.0.113.5"])
EAST2 = host("east2", "web", site="east", private=["10.1.0.6/24"])
WEST1 = host("west1", "web", site="west", private=["10.2.0.7/24"], public=["198.51.100.7"])
NATTED = host("west2", "db", site="west", private=["10.9.0.8/24"], behind_nat=True)
NORTH = host("north1", "db", site="north", private=["10.3.0.9/24"], behind_nat=True)
ALL = [EAST1, EAST2, WEST1, NATTED, NORTH]


def compiled(rows: list[Row], name: str, vpn: str = "backbone") -> VpnDesired:
    desired = VPN.compile(view(rows), name)[vpn]
    assert isinstance(desired, VpnDesired)
    return desired


def scene(*more: Row, **spec: Any) -> list[Row]:
    return admitted([*ALL, instance(**spec), *more])


def peers(desired: VpnDesired) -> dict[str, Peer]:
    return {peer.host: peer for peer in desired.peers}


def test_in_a_mesh_every_pair_that_can_talks_directly() -> None:
    desired = compiled(scene(), "east1")
    assert desired.addresses == ("10.66.0.1/16",)
    assert {name: peer.endpoint for name, peer in peers(desired).items()} == {
        "east2": "10.1.0.6:51820",
        "north1": None,
        "west1": "198.51.100.7:51820",
        "west2": None,
    }
    assert peers(desired)["east2"].allowed_ips == ("10.66.0.2/32",)
    assert not desired.problems
    assert not desired.forward
    assert desired.mtu == 1420


def test_who_cannot_be_called_back_keeps_its_way_open() -> None:
    desired = compiled(scene(keepalive=7), "west2")
    assert peers(desired)["east1"].keepalive == 7
    assert peers(compiled(scene(), "east1"))["west2"].keepalive is None
    assert peers(compiled(scene(), "east1"))["east2"].keepalive is None


def test_of_two_that_can_call_each_other_the_one_with_the_lesser_address_does() -> None:
    assert peers(compiled(scene(), "east1"))["east2"].calls
    assert not peers(compiled(scene(), "east2"))["east1"].calls
    assert not peers(compiled(scene(), "east1"))["west2"].calls
    assert peers(compiled(scene(), "west2"))["east1"].calls


def test_who_has_no_place_yet_calls_nobody_because_nobody_knows_it() -> None:
    rows = [one for one in scene() if one.name not in ("backbone/west2", "backbone/east1")]
    for newcomer in ("west2", "east1"):
        found = compiled(rows, newcomer).peers
        assert found
        assert not any(peer.calls or peer.keepalive for peer in found)


def test_two_behind_different_nats_are_said_to_have_no_path() -> None:
    desired = compiled(scene(), "west2")
    assert "north1" not in peers(desired)
    assert [text.partition(";")[0] for text in desired.problems] == [
        "no path to east2: neither side can call the other",
        "no path to north1: neither side can call the other",
    ]


def test_a_relay_leads_where_no_path_does() -> None:
    rows = scene(relay="edge")
    desired = compiled(rows, "west2")
    assert not desired.problems
    assert desired.relayed == (("east2", "east1"), ("north1", "east1"))
    assert peers(desired)["east1"].allowed_ips == ("10.66.0.1/32", "10.66.0.2/32", "10.66.0.3/32")
    assert compiled(rows, "east1").forward
    assert not compiled(rows, "west1").forward


def test_a_relay_that_is_down_is_passed_over() -> None:
    second = host("aaa", "edge", site="south", public=["192.0.2.1"])
    rows = admitted([*ALL, second, instance(relay="edge")])
    assert dict(compiled(rows, "west2").relayed)["north1"] == "aaa"
    assert dict(compiled([*rows, state("aaa", "down")], "west2").relayed)["north1"] == "east1"
    both = [*rows, state("aaa", "down"), state("east1", "down")]
    assert dict(compiled(both, "west2").relayed)["north1"] == "aaa"


def test_around_a_hub_everything_goes_through_it() -> None:
    rows = scene(topology="hub", hub="edge")
    spoke = compiled(rows, "west2")
    assert list(peers(spoke)) == ["east1"]
    assert peers(spoke)["east1"].allowed_ips == ("10.66.0.0/16", "10.66.0.1/32")
    assert peers(spoke)["east1"].is_hub
    assert dict(spoke.relayed) == {"east2": "east1", "north1": "east1", "west1": "east1"}
    assert (spoke.is_hub, spoke.forward, spoke.carrier) == (False, False, "east1")
    hub = compiled(rows, "east1")
    assert list(peers(hub)) == ["east2", "north1", "west1", "west2"]
    assert (hub.is_hub, hub.forward, hub.carrier) == (True, True, "east1")
    assert not hub.problems


def test_a_hub_that_nobody_joined_is_a_problem_of_all() -> None:
    rows = [found for found in scene(topology="hub", hub="edge") if "east1" not in found.name]
    desired = compiled(rows, "west2")
    assert desired.problems == ("no host of the group edge has joined the VPN yet",)
    assert not desired.peers


def test_a_hub_that_cannot_be_reached_is_a_problem_of_both_sides() -> None:
    rows = scene(topology="hub", hub="db")  # both of its hosts sit behind NATs
    assert compiled(rows, "east2").problems[0].startswith("no path to north1: neither side")
    assert compiled(rows, "north1").problems[0].startswith("no path to east2: neither side")
    assert not compiled(rows, "west1").problems


def test_a_hub_that_is_down_hands_over_to_the_next() -> None:
    rows = scene(topology="hub", hub="web")
    assert compiled(rows, "east1").carrier == "east2"
    assert compiled([*rows, state("east2", "down")], "east1").carrier == "west1"


def test_a_subnet_behind_a_hub_that_is_not_the_first_leads_to_that_hub() -> None:
    routes = [{"subnet": "10.77.0.0/16", "via": "west1"}]
    rows = scene(topology="hub", hub="web", routes=routes)
    assert "10.77.0.0/16" in peers(compiled(rows, "east1"))["west1"].allowed_ips


def test_routes_lead_to_their_gateway_and_not_where_they_come_from() -> None:
    routes = [
        {"subnet": "10.2.0.0/24", "via": "west1"},
        {"subnet": "10.77.0.0/16", "via": "nobody"},
    ]
    rows = scene(routes=routes)
    desired = compiled(rows, "east1")
    assert desired.routes == ("10.2.0.0/24",)
    assert peers(desired)["west1"].allowed_ips == ("10.2.0.0/24", "10.66.0.4/32")
    gateway = compiled(rows, "west1")
    assert (gateway.gateway_for, gateway.routes, gateway.forward) == (("10.2.0.0/24",), (), True)


def test_who_is_in_a_routed_subnet_already_is_not_sent_away() -> None:
    inside = host("west3", site="west", private=["10.2.0.20/24"])
    routes = [{"subnet": "10.2.0.0/16", "via": "west1"}]
    rows = admitted([*ALL, inside, instance(routes=routes)])
    assert compiled(rows, "west3").routes == ()


def test_a_host_may_be_in_several_vpns() -> None:
    rows = [*ALL, instance(), instance("inner", cidr="fd77::/64", members=["web"], listen_port=7)]
    rows = admitted(admitted(rows), "inner")
    assert set(VPN.compile(view(rows), "west1")) == {"backbone", "inner"}
    assert set(VPN.compile(view(rows), "east1")) == {"backbone"}
    inner = compiled(rows, "west1", "inner")
    assert (inner.addresses, inner.listen_port) == (("fd77::2/64",), 7)
    assert list(peers(inner)) == ["east2"]


def test_members_are_who_is_in_the_groups_and_who_carries() -> None:
    rows = admitted([*ALL, instance(members=["db"], topology="hub", hub="edge")])
    assert set(view(rows).members("vpn", "backbone")) == {"east1", "north1", "west2"}
    assert VPN.compile(view(rows), "west1") == {}


def test_what_peers_announced_is_passed_on() -> None:
    key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
    rows = [EAST1, EAST2, instance(driver="wireguard"), member("east1", "10.66.0.1")]
    rows[-1] = member("east1", "10.66.0.1", driver="wireguard", public_key=key)
    rows.append(member("east2", "10.66.0.2", driver="wireguard", next_public_key=key))
    assert peers(compiled(rows, "east2"))["east1"].public_key == key
    assert peers(compiled(rows, "east1"))["east2"].next_public_key == key


def test_rows_of_hosts_that_are_gone_or_do_not_fit_are_passed_over() -> None:
    rows = [EAST1, EAST2, instance(), member("east1", "10.66.0.1"), member("east2", "10.1.1.1")]
    rows.append(member("ghost", "10.66.0.3"))
    assert compiled(rows, "east1").peers == ()
    assert VPN.compile(view(rows), "ghost") == {}
    assert VPN.units(view(rows), "ghost") == []


@pytest.mark.parametrize(
    ("cidr", "underlay", "mtu"),
    [("10.66.0.0/16", 9000, 8920), ("fd66::/64", 1300, 1280), ("10.66.0.0/16", 1300, 1220)],
)
def test_the_mtu_follows_the_underlay(cidr: str, underlay: int, mtu: int) -> None:
    rows = admitted([host("a", mtu=underlay), instance(cidr=cidr)])
    assert compiled(rows, "a").mtu == mtu
    assert compiled(admitted([host("a", mtu=underlay), instance(mtu=1400)]), "a").mtu == 1400


def test_a_unit_knows_what_its_driver_must_know_before_it_announces() -> None:
    rows = [EAST1, instance(rotate_after=60, driver_options={"proto": "tcp"})]
    (unit,) = VPN.units(view(rows), "east1")
    assert dict(unit.options) == {"rotate_after": 60, "generation": 0, "proto": "tcp"}
    rows.append(row(renewal_kind("vpn"), "backbone", {"generation": 3}, OPERATOR))
    (unit,) = VPN.units(view(rows), "east1")
    assert unit.options["generation"] == 3
