# SPDX-License-Identifier: Apache-2.0
"""Nobody takes another's place in an OpenVPN: not with a certificate, not with a packet."""

import time

import pytest

from cnsmo.services.base import Refused
from cnsmo.services.vpn.drivers.openvpn import OpenvpnDriver
from tests.functional.vpn.contract import IF, end_pings
from tests.functional.vpn.deployment import VPN
from tests.functional.vpn.hub import HUB, Deploy, assert_all_reach_all, deployments, sessions

deploy = pytest.fixture(deployments)


def test_a_certificate_in_anothers_name_opens_nothing(deploy: Deploy) -> None:
    """``three`` is a member, but the certificate that it announces says that it is ``two``."""
    shop = deploy("one", "two", "three")
    thief = OpenvpnDriver(
        shop.net.vms["three"].system, VPN, f"shop/two/vpn/{VPN}", shop.state_dir("three")
    )
    shop.drivers["three"] = thief
    shop.converge()
    assert_all_reach_all(shop, "one", "two")
    before = sessions(shop)
    pings = shop.net.vms["one"].spawn(f"ping -n -i 0.05 -w 60 {shop.vpn_address('two')}")
    time.sleep(4)  # several attempts of the thief
    assert end_pings(shop.net.vms["one"], pings).lost == 0
    assert sessions(shop) == before
    assert set(before) == {"two"}
    seen = thief.observe(shop.desired("three"))
    (problem,) = seen.problems
    assert problem.startswith("not connected to the hub one")
    assert seen.again


def test_announcing_anothers_fingerprint_opens_nothing(deploy: Deploy) -> None:
    shop = deploy("one", "two", "three")
    stolen = shop.announce("two")["fingerprint"]
    shop.converge()
    with pytest.raises(Refused):
        shop.admit("three", {"driver": "openvpn", "fingerprint": stolen})
    shop.impose("three", fingerprint=stolen)
    shop.apply("one")
    assert_all_reach_all(shop, "one", "two")
    assert set(sessions(shop)) == {"two"}


def test_a_stranger_who_knows_everything_public_is_refused(deploy: Deploy) -> None:
    """He has the issuer's key (everybody has), a member's name and its fingerprint."""
    shop = deploy("one", "two", "three")
    shop.announce("one")
    shop.announce("two")
    shop.announce("three")
    shop.leave("three")
    shop.apply("one")
    stranger = OpenvpnDriver(
        shop.net.vms["three"].system, VPN, f"shop/two/vpn/{VPN}", shop.state_dir("three")
    )
    stranger.apply(shop.desired("two"))
    assert sessions(shop) == {}
    shop.apply("two")
    assert_all_reach_all(shop, "one", "two")
    assert sessions(shop)["two"].startswith(shop.net.address("two"))


@pytest.mark.parametrize("version", [4, 6])
def test_packets_with_anothers_source_address_are_dropped(deploy: Deploy, version: int) -> None:
    shop = deploy("one", "two", "three")
    shop.converge()
    assert_all_reach_all(shop, "one", "two", "three")
    stolen, own = shop.vpn_address("two", version), shop.vpn_address("three", version)
    hub, thief = shop.net.vms["one"], shop.net.vms["three"]
    family = "ip" if version == 4 else "ip6"
    hub.run("nft add table inet watch")
    hub.run("nft add chain inet watch in { type filter hook prerouting priority -300 ; }")
    for address in (stolen, own):
        hub.run(f"nft add rule inet watch in iifname {IF} {family} saddr {address} counter")
    thief.run(f"ip address add {stolen}/{32 if version == 4 else 128} dev {IF}"
              + (" nodad" if version == 6 else ""))  # fmt: skip
    for source in (stolen, own):
        thief.run(f"ping -n -c 3 -i 0.1 -W 1 -I {source} {shop.vpn_address('one', version)}",
                  ok=(0, 1))  # fmt: skip
    rules = [rule["rule"] for rule in hub.json("nft -j list chain inet watch in")["nftables"]
             if "rule" in rule]  # fmt: skip
    counted = [part["counter"]["packets"] for rule in rules for part in rule["expr"]
               if "counter" in part]  # fmt: skip
    assert counted == [0, 3]


def test_who_is_let_in_behind_our_back_is_seen_and_thrown_out(deploy: Deploy) -> None:
    shop = deploy("one", "two", "three")
    shop.converge()
    assert_all_reach_all(shop, "one", "two", "three")
    shop.leave("three")
    seen = shop.drivers["one"].observe(shop.desired("one")).drift
    assert any(line.startswith("three (") for line in seen)
    assert any("may connect, and shall not" in line for line in seen)
    shop.apply("one")
    assert shop.drivers["one"].observe(shop.desired("one")).drift == ()
    assert set(sessions(shop)) == {"two"}
    time.sleep(3)  # it tries to come back
    assert set(sessions(shop)) == {"two"}


def test_a_withdrawn_certificate_ends_the_session_that_it_began(deploy: Deploy) -> None:
    """The host was made anew under its old name; the old VM is still there."""
    shop = deploy("one", "two")
    shop.converge()
    assert_all_reach_all(shop, "one", "two")
    shop.admit("two", {"driver": "openvpn", "fingerprint": ":".join(["AB"] * 32)})
    shop.apply("one")
    assert sessions(shop) == {}
    assert shop.net.vms["two"].ping(shop.vpn_address("one"), count=2, wait=1).received == 0


def test_a_new_address_reaches_a_connected_member(deploy: Deploy) -> None:
    shop = deploy("one", "two", "three")
    shop.converge()
    assert_all_reach_all(shop, "one", "two", "three")
    shop.leave("three")
    shop.declare({**HUB, "cidr": ["10.67.0.0/24", "fd66::/64"]})
    shop.drivers.pop("three")
    shop.converge()
    assert shop.vpn_address("two").startswith("10.67.")
    assert_all_reach_all(shop, "one", "two")
