# SPDX-License-Identifier: Apache-2.0
"""What keepalived is told, and that nobody can make it hear anything else."""

import dataclasses
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnsmo.model.errors import DriverError
from cnsmo.services.loadbalancer.desired import Vip
from cnsmo.services.loadbalancer.drivers.vrrp_render import Place, holds, place_of, render_vip

VIP = Vip("10.0.0.100/24", "10.0.0.5", ("10.0.0.6", "10.0.0.7"), router=51, priority=200)
HERE = Place("eth0", "eth0")
FOLDER = "/var/lib/cnsmo/units/loadbalancer/www/haproxy"
LINE = re.compile(r" *([A-Za-z0-9._:/-]+( [A-Za-z0-9._:/-]+)*( \{)?|\})")
SCRIPT = f'  script "/usr/bin/python3 -I -S {FOLDER}/alive.py {FOLDER}"'


def text_of(vip: Vip = VIP, place: Place = HERE, watches: bool = True) -> str:
    return render_vip(vip, place, FOLDER, "/usr/bin/python3" if watches else "")


def link(name: str, *addresses: str) -> dict[str, Any]:
    infos = [it.split("/") for it in addresses]
    return {
        "ifname": name,
        "addr_info": [{"local": address, "prefixlen": int(size)} for address, size in infos],
    }


def test_a_carrier_speaks_to_its_peers_alone_and_looks_after_its_haproxy() -> None:
    found = text_of()
    assert SCRIPT in found
    for line in (
        "  enable_script_security", "  vrrp_version 3", "  vrrp_check_unicast_src",
        "  unicast_src_ip 10.0.0.5", "    10.0.0.6", "    10.0.0.7", "  priority 200",
        "  virtual_router_id 51", "  nopreempt", "    10.0.0.100/32 dev eth0 scope link",
        "  interface eth0",
    ):  # fmt: skip
        assert f"{line}\n" in found
    assert "auth" not in found
    assert "track_interface" not in found
    assert "delay" not in found
    assert "script " not in text_of(watches=False)


def test_one_that_is_alone_speaks_where_the_vip_is() -> None:
    found = text_of(dataclasses.replace(VIP, peers=()), Place("eth0", "cn-backbone"))
    assert "unicast" not in found.replace("vrrp_check_unicast_src", "")
    assert "  interface eth0\n" in found
    assert "track_interface" not in found


def test_it_may_speak_by_another_interface_than_the_vips() -> None:
    found = text_of(dataclasses.replace(VIP, source="10.66.0.1", peers=("10.66.0.2",)),
                    Place("eth0", "cn-backbone"))  # fmt: skip
    assert "  interface cn-backbone\n" in found
    assert "  vrrp_startup_delay 6\n" in found  # its tunnels come up first
    assert "  track_interface {\n    eth0\n  }\n" in found


def test_an_address_of_the_other_version_of_ip_is_held_too() -> None:
    found = text_of(dataclasses.replace(VIP, address="fd00::100/64"))
    assert "virtual_ipaddress_excluded {\n    fd00::100/128 dev eth0\n" in found


HOSTILE = st.one_of(
    st.text(), st.integers(), st.floats(), st.none(), st.lists(st.text()),
    st.text(alphabet="10./:a \n\"'{}#!@$", max_size=12),
)  # fmt: skip


@settings(max_examples=500)
@given(
    st.sampled_from([field.name for field in dataclasses.fields(Vip)]),
    HOSTILE,
    st.lists(HOSTILE, max_size=3).map(tuple),
)
def test_no_value_can_add_a_line_or_a_word(field: str, value: Any, several: Any) -> None:
    vip = dataclasses.replace(VIP, **{field: several if field == "peers" else value})
    try:
        found = text_of(vip)
    except DriverError:
        return
    lines = found.replace(SCRIPT, "").splitlines()
    assert all(not line or LINE.fullmatch(line) for line in lines)
    block = 3 if vip.peers else 0  # who it is, and the brackets around the others
    assert len(lines) - len(vip.peers) - block == len(text_of().splitlines()) - len(VIP.peers) - 3


@given(st.text(), st.text())
def test_interfaces_are_checked_as_well(device: str, speaker: str) -> None:
    try:
        found = text_of(place=Place(device, speaker))
    except DriverError:
        return
    assert all(not line or LINE.fullmatch(line) for line in found.replace(SCRIPT, "").splitlines())


@pytest.mark.parametrize(
    ("links", "found"),
    [
        ([link("eth0", "10.0.0.5/24")], Place("eth0", "eth0")),
        ([link("eth0", "10.0.0.100/24", "10.0.0.5/24")], Place("eth0", "eth0")),
        (
            [link("eth0", "10.0.0.9/8"), link("eth1", "10.0.0.10/24"), link("cn-x", "10.0.0.5/32")],
            Place("eth1", "cn-x"),
        ),
        (
            [link("eth0", "192.0.2.5/24", "fd00::5/64")],
            "no interface of this host is in the network of the VIP 10.0.0.100/24",
        ),
        (
            [link("eth0", "10.0.0.100/24", "10.0.0.7/24")],
            "this host has no address 10.0.0.5, by which it would speak of the VIP",
        ),
        ([link("eth0", "10.0.0.100/24")],
         "no interface of this host is in the network of the VIP 10.0.0.100/24"),
    ],
)  # fmt: skip
def test_where_the_vip_belongs(links: list[dict[str, Any]], found: Place | str) -> None:
    assert place_of(VIP, links) == found
    assert holds(VIP, links) is any("10.0.0.100" in str(it) for it in links)


@pytest.mark.parametrize(
    "wrong",
    [
        {"peers": ("10.0.0.5",)}, {"peers": ("fd00::6",)}, {"router": 0},
        {"router": 256}, {"priority": 255}, {"priority": 0}, {"address": "10.0.0.100"},
        {"address": "10.0.0.100/33"}, {"address": "10.0.0.100/24 dev lo"}, {"source": "lo"},
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(DriverError):
        text_of(dataclasses.replace(VIP, **wrong))
