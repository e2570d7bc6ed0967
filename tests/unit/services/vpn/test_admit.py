# SPDX-License-Identifier: Apache-2.0
"""Address allocation: stable, never two owners, quarantined after removal."""

import datetime
import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnsmo.model.resource import Row, View, joined, member_kind
from cnsmo.services.base import Refused
from cnsmo.services.vpn.admit import allocate, usable
from cnsmo.services.vpn.spec import VpnAnnouncement, VpnSpec
from tests.unit.services.vpn.scenes import NOW, VPN, host, instance, member, row, view


def spec(cidr: str | list[str] = "10.66.0.0/29", quarantine: int = 3600) -> VpnSpec:
    return VpnSpec.model_validate({"cidr": cidr, "quarantine": quarantine})


def gone(name: str, address: str, seconds_ago: int, vpn: str = "backbone") -> Row:
    moment = NOW - datetime.timedelta(seconds=seconds_ago)
    body = {"addresses": [address], "driver": "noop"}
    kind = member_kind("vpn")
    return row(kind, joined(vpn, name), body, deleted=True, updated_at=moment)


def got(rows: list[Row], name: str = "new", **how: object) -> tuple[str, ...]:
    return allocate(view(rows), "backbone", name, spec(**how))  # type: ignore[arg-type]


def test_the_lowest_free_address_is_given() -> None:
    assert got([]) == ("10.66.0.1",)
    assert got([member("a", "10.66.0.1"), member("b", "10.66.0.3")]) == ("10.66.0.2",)


def test_a_host_keeps_what_it_has() -> None:
    assert got([member("new", "10.66.0.5")]) == ("10.66.0.5",)


def test_two_networks_give_two_addresses() -> None:
    assert got([member("a", "10.66.0.1", "fd66::1")], cidr=["10.66.0.0/29", "fd66::/64"]) == (
        "10.66.0.2",
        "fd66::2",
    )


def test_a_second_network_leaves_the_first_address_as_it_was() -> None:
    rows = [member("new", "10.66.0.5"), member("a", "10.66.0.1")]
    assert got(rows, cidr=["fd66::/64", "10.66.0.0/29"]) == ("fd66::1", "10.66.0.5")


def test_another_network_gives_another_address() -> None:
    assert got([member("new", "10.1.0.5")]) == ("10.66.0.1",)


def test_members_of_other_vpns_do_not_count() -> None:
    assert got([member("a", "10.66.0.1", vpn="backbone2")]) == ("10.66.0.1",)
    assert got([gone("a", "10.66.0.1", 5, vpn="backbone2")]) == ("10.66.0.1",)


def test_the_address_of_who_left_rests() -> None:
    assert got([gone("a", "10.66.0.1", 3599)]) == ("10.66.0.2",)
    assert got([gone("a", "10.66.0.1", 3600)]) == ("10.66.0.1",)
    assert got([gone("a", "10.66.0.1", 1)], quarantine=0) == ("10.66.0.1",)


@pytest.mark.parametrize("seconds_ago", [1, 3599, 86400])
def test_who_comes_back_gets_its_address_while_nobody_has_it(seconds_ago: int) -> None:
    assert got([gone("new", "10.66.0.4", seconds_ago)]) == ("10.66.0.4",)
    taken = [gone("new", "10.66.0.4", seconds_ago), member("a", "10.66.0.4")]
    assert got(taken) == ("10.66.0.1",)


def test_a_full_network_is_said_to_be_full() -> None:
    rows = [member(f"a{last}", f"10.66.0.{last}") for last in range(1, 6)]
    rows.append(gone("b", "10.66.0.6", 10))
    with pytest.raises(Refused) as caught:
        got(rows)
    assert str(caught.value) == (
        "VPN backbone: no address is left in 10.66.0.0/29 (6 in use, of which at most 1 rest "
        "after a removal): declare a larger cidr, or wait for the quarantine"
    )


def test_without_a_clock_nothing_is_allocated() -> None:
    rows = [gone("a", "10.66.0.1", 1)]
    with pytest.raises(ValueError, match="needs the core's clock"):
        allocate(View("shop", 1, rows), "backbone", "new", spec())


@pytest.mark.parametrize(
    ("pool", "address", "may"),
    [
        ("10.66.0.0/29", "10.66.0.0", False),
        ("10.66.0.0/29", "10.66.0.1", True),
        ("10.66.0.0/29", "10.66.0.7", False),
        ("10.66.0.0/29", "10.66.0.8", False),
        ("10.66.0.0/29", "fd66::1", False),
        ("fd66::/64", "fd66::", False),
        ("fd66::/64", "fd66::ffff:ffff:ffff:ffff", True),
    ],
)
def test_network_and_broadcast_addresses_are_no_hosts(pool: str, address: str, may: bool) -> None:
    assert usable(ipaddress.ip_network(pool), ipaddress.ip_address(address)) is may


@settings(max_examples=60)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from("abcdefghij"), st.booleans(), st.integers(0, 1200)), max_size=40
    )
)
def test_no_address_has_two_owners_nor_comes_back_too_soon(
    steps: list[tuple[str, bool, int]],
) -> None:
    """Hosts come and go at any time, in a network of six addresses."""
    declared, clock = spec(), NOW
    rows: dict[str, Row] = {}
    left: dict[str, tuple[str, datetime.datetime]] = {}
    for name, comes, seconds in steps:
        clock += datetime.timedelta(seconds=seconds)
        live = {key: found for key, found in rows.items() if not found.deleted}
        if comes:
            try:
                (address,) = allocate(
                    View("shop", 1, rows.values(), now=clock), "backbone", name, declared
                )
            except Refused:
                resting = [found for found in rows.values() if found.deleted]
                assert len(live) + len(resting) >= 6
                continue
            others = [found.body["addresses"] for key, found in live.items() if key != name]
            assert [address] not in others
            owner, moment = left.get(address, (name, clock))
            assert owner == name or clock - moment >= datetime.timedelta(seconds=3600)
            if name in live:
                assert live[name].body["addresses"] == [address]
            rows[name] = member(name, address).model_copy(update={"updated_at": clock})
        elif name in live:
            left[live[name].body["addresses"][0]] = (name, clock)
            rows[name] = live[name].model_copy(update={"deleted": True, "updated_at": clock})


def test_admission_completes_the_announcement() -> None:
    scene = view([host("web1"), instance(), member("a", "10.66.0.1")])
    offer = VPN.Announcement(driver="noop")
    assert VPN.admit(scene, "backbone", "web1", offer) == {
        "driver": "noop",
        "addresses": ["10.66.0.2"],
    }


@pytest.mark.parametrize(
    ("body", "admitted"),
    [
        ({}, True),
        ({"driver": "wireguard"}, False),
        ({"addresses": ["10.67.0.1"]}, False),
        ({"addresses": ["10.66.0.1", "fd66::1"]}, False),
        ({"addresses": []}, False),
        ({"addresses": ["10.66.0.0"]}, False),
    ],
)
def test_a_member_row_counts_while_it_fits_the_spec(
    body: dict[str, object], admitted: bool
) -> None:
    rows = [host("web1"), instance()]
    body = {"addresses": ["10.66.0.1"], "driver": "noop", **body}
    rows.append(row(member_kind("vpn"), "backbone/web1", body))
    assert VPN.admitted(view(rows), "backbone", "web1") is admitted
    assert VPN.compile(view(rows), "web1")["backbone"].waiting is not admitted


def test_without_a_row_or_a_spec_nobody_is_admitted() -> None:
    assert not VPN.admitted(view([host("web1"), instance()]), "backbone", "web1")
    assert not VPN.admitted(view([member("web1", "10.66.0.1")]), "backbone", "web1")


KEY = "HmnHWRzKdUdqpRQkN6l98YPO0CYhwPepECFk3z/Bv0Q="
OTHER_KEY = "RRCCwaSA5A36sQi9oQT3s36Tlt4c02dcO57mNj0ZB3Y="
THIRD_KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


@pytest.mark.parametrize("theirs", ["public_key", "next_public_key"])
@pytest.mark.parametrize("mine", ["public_key", "next_public_key"])
def test_a_key_that_another_member_has_is_refused(theirs: str, mine: str) -> None:
    rows = [host("a"), host("b"), instance(driver="wireguard")]
    rows.append(member("a", "10.66.0.1", driver="wireguard", **{theirs: KEY}))
    announced = {"driver": "wireguard", "public_key": OTHER_KEY, mine: KEY}
    with pytest.raises(Refused, match="a has announced the same key"):
        VPN.admit(view(rows), "backbone", "b", VPN.Announcement.model_validate(announced))
    announced[mine] = THIRD_KEY
    VPN.admit(view(rows), "backbone", "b", VPN.Announcement.model_validate(announced))


def test_a_key_is_not_replaced_by_age_while_a_member_is_cut_off_unless_it_is_twice_as_old() -> None:
    rows = [host("a"), host("b"), host("c"), instance(driver="wireguard", rotate_after=100)]
    rows += [member(name, f"10.66.0.{n}", driver="wireguard") for n, name in enumerate("abc", 1)]

    def life(**states: str) -> float:
        said = [
            row("agent", f"{name}/vpn", {"state": state, "reason": ""})
            for name, state in states.items()
        ]
        return float(VPN.units(view(rows + said), "a")[0].options["rotate_after"])

    assert life(a="ready", b="ready", c="error") == 100
    assert life(a="ready", b="down", c="ready") == 200
    assert life(a="ready", b="joining") == 100


def test_hosts_change_their_keys_one_after_the_other() -> None:
    rows = [host("a"), host("b"), host("c"), instance(driver="wireguard")]
    rows += [
        member(name, f"10.66.0.{n}", driver="wireguard", generation=done)
        for n, (name, done) in enumerate([("a", 1), ("b", None), ("c", None)], start=1)
    ]
    rows.append(row("vpn.renewal", "backbone", {"generation": 1}))
    rows += [row("agent", f"{name}/vpn", {"state": "ready", "reason": ""}) for name in "abc"]

    def wanted(name: str) -> int:
        return int(VPN.units(view(rows), name)[0].options["generation"])

    assert [wanted(name) for name in "abc"] == [1, 1, 0]
    rows.append(row("agent", "b/vpn", {"state": "down", "reason": ""}))
    assert wanted("c") == 1, "nobody waits for a host whose agent does not work"


@pytest.mark.parametrize(
    ("driver", "key"), [("wireguard", "public_key"), ("openvpn", "fingerprint")]
)
def test_who_announces_nothing_to_be_known_by_is_refused(driver: str, key: str) -> None:
    topology = {"topology": "hub", "hub": "web"} if driver == "openvpn" else {}
    rows = [host("a", "web"), instance(driver=driver, **topology)]
    with pytest.raises(Refused, match=f"the driver {driver} announces its {key}"):
        VPN.admit(view(rows), "backbone", "a", VpnAnnouncement(driver=driver))
