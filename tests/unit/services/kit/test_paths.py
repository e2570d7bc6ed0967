# SPDX-License-Identifier: Apache-2.0
"""Which way leads from one host to another."""

import ipaddress
from typing import Any

import pytest

from cnsmo.model.host import Host
from cnsmo.services.kit.paths import call_address, direct, endpoint, inner_mtu, single


def host(name: str = "a", site: str = "east", **facts: Any) -> Host:
    return Host(name=name, id=f"h-{name}", site=site, **facts)


def called(caller: Host, callee: Host) -> str | None:
    found = call_address(caller, callee)
    return None if found is None else str(found)


EAST1 = host("east1", private=("10.1.0.5/24",), public=("203.0.113.5",))
EAST2 = host("east2", private=("10.1.0.6/24",), public=("203.0.113.6",))
EAST3 = host("east3", private=("10.1.9.7/24",), public=("203.0.113.7",))
WEST1 = host("west1", "west", private=("10.1.0.7/24",), public=("198.51.100.7",))
NATTED = host("natted", "west", private=("10.1.0.8/24",), behind_nat=True)
NATTED_WITH_PUBLIC = host(
    "odd", "north", private=("10.3.0.8/24",), public=("192.0.2.9",), behind_nat=True
)
LONELY = host("lonely", "south", private=("10.4.0.9/24",))


def test_in_a_shared_subnet_the_private_address_is_called() -> None:
    assert called(EAST1, EAST2) == "10.1.0.6"
    assert called(WEST1, NATTED) == "10.1.0.8", "even behind a NAT: it is not in between"


def test_in_one_site_private_addresses_are_called_across_subnets() -> None:
    assert called(EAST1, EAST3) == "10.1.9.7"


def test_in_one_site_without_private_addresses_the_public_one_is_called() -> None:
    assert called(EAST1, host(public=("203.0.113.9",))) == "203.0.113.9"


def test_between_sites_the_public_address_is_called_even_if_subnets_look_the_same() -> None:
    assert called(EAST1, WEST1) == "198.51.100.7"


def test_nobody_calls_who_sits_behind_a_nat_and_it_calls_the_others() -> None:
    assert called(EAST1, NATTED) is None
    assert called(NATTED, EAST1) == "203.0.113.5"
    assert called(EAST1, NATTED_WITH_PUBLIC) is None
    assert direct(EAST1, NATTED)
    assert direct(NATTED, EAST1)


def test_two_behind_different_nats_have_no_way() -> None:
    assert not direct(NATTED, NATTED_WITH_PUBLIC)


def test_who_has_no_public_address_cannot_be_called_from_elsewhere() -> None:
    assert called(EAST1, LONELY) is None
    assert direct(EAST1, LONELY)
    assert not direct(NATTED, LONELY)


def test_no_host_is_told_to_call_an_address_of_a_family_that_it_lacks() -> None:
    only4 = host("four", private=("10.1.0.5/24",))
    only6 = host("six", "west", private=("2001:db8:2::5/64",), public=("2001:db8:2::5",))
    both = host("both", "north", public=("2001:db8:3::5", "203.0.113.77"))
    assert called(only4, only6) is None
    assert called(only4, both) == "203.0.113.77"
    assert called(only6, both) == "2001:db8:3::5"
    assert called(both, only6) == "2001:db8:2::5", "nothing is known of its own: all is tried"


@pytest.mark.parametrize("private", ["fe80::5/64", "169.254.0.5/16"])
def test_link_local_addresses_are_never_called(private: str) -> None:
    one, other = host("a", private=(private,)), host("b", private=(private.replace("5/", "6/"),))
    assert called(one, other) is None


def test_two_single_addresses_are_no_shared_subnet() -> None:
    one = host("a", private=("10.1.0.5/32",), behind_nat=True)
    assert called(host("b", private=("10.1.0.5/32",)), one) is None


def test_an_endpoint_is_written_as_every_tool_reads_it() -> None:
    assert endpoint(ipaddress.ip_address("192.0.2.1"), 51820) == "192.0.2.1:51820"
    assert endpoint(ipaddress.ip_address("2001:db8::1"), 7) == "[2001:db8::1]:7"
    assert endpoint(None, 7) is None


def test_single_addresses_become_networks() -> None:
    assert single("10.0.0.1") == "10.0.0.1/32"
    assert single("fd66::1") == "fd66::1/128"


def test_a_tunnels_mtu_leaves_room_for_what_carries_it() -> None:
    assert inner_mtu(1500) == 1420
