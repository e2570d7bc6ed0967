# SPDX-License-Identifier: Apache-2.0
"""Interfaces: names, marks, and the least change from what is there to what is wanted."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnsmo.model.errors import DriverError
from cnsmo.services.kit.link import (
    ALIAS_BYTES,
    Link,
    WantedLink,
    foreign_routes,
    interface_name,
    link_steps,
    mark,
    parse_link,
    require_ours,
)

ADDRESSES = ["10.66.0.1/24", "10.66.0.2/24", "10.67.0.1/16", "fd66::1/64", "fd66::2/128"]
ROUTES = ["192.168.7.0/24", "192.168.8.0/24", "fd77::/64"]
labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
wanteds = st.builds(
    WantedLink,
    mtu=st.sampled_from([1280, 1420]),
    addresses=st.frozensets(st.sampled_from(ADDRESSES)),
    routes=st.frozensets(st.sampled_from(ROUTES)),
)


@st.composite
def links(draw: st.DrawFn) -> Link:
    wanted, up = draw(wanteds), draw(st.booleans())
    networks = {str(ipaddress.ip_interface(text).network) for text in wanted.addresses}
    has4 = any(":" not in text for text in wanted.addresses)
    routes = {route for route in wanted.routes if ":" in route or has4}
    return Link(
        "cn-x", "tun", "", wanted.mtu, up, wanted.addresses,
        frozenset(routes) if up else frozenset(),
        draw(st.sampled_from([frozenset(networks), frozenset()])) if up else frozenset(),
    )  # fmt: skip


def obey(link: Link, commands: list[str]) -> Link:
    """What ip(8) and the kernel do with an interface."""
    up, mtu = link.up, link.mtu
    addresses, routes, connected = set(link.addresses), set(link.routes), set(link.connected)
    for command in commands:
        kind, verb, what, *rest = command.split()
        if kind == "address" and verb == "add":
            assert what not in addresses, "File exists"
            addresses.add(what)
        elif kind == "address":
            addresses.remove(what)
            if ":" not in what and not any(":" not in text for text in addresses):
                routes = {route for route in routes if ":" in route}
        elif kind == "link" and rest[1:] == ["up"]:
            up = True
        elif kind == "link":
            mtu = int(rest[2])
        elif verb == "add" and "proto" in rest:
            connected.add(what)
        elif verb == "add":
            assert up, "Network is down"
            assert what not in routes, "File exists"
            routes.add(what)
        else:
            routes.remove(what)
    return Link(
        link.name, link.kind, link.alias, mtu, up, frozenset(addresses), frozenset(routes),
        frozenset(connected | {str(ipaddress.ip_interface(text).network) for text in addresses}),
    )  # fmt: skip


@given(links(), wanteds)
def test_the_steps_lead_to_what_is_wanted_and_then_there_are_none(
    link: Link, wanted: WantedLink
) -> None:
    after = obey(link, [step.command for step in link_steps(link, wanted)])
    assert (after.mtu, after.up) == (wanted.mtu, True)
    assert after.addresses == wanted.addresses
    assert after.routes == wanted.routes
    assert link_steps(after, wanted) == []


services = st.sampled_from(["vpn", "loadbalancer", "phonebook"])


@given(services, labels)
def test_names_fit_and_are_stable(service: str, unit: str) -> None:
    name = interface_name(service, unit)
    assert len(name) <= 15
    assert name == interface_name(service, unit)
    assert name.startswith("cn-")


@given(st.tuples(services, labels), st.tuples(services, labels))
def test_two_units_have_two_names(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert (interface_name(*one) == interface_name(*other)) == (one == other)


def test_units_of_one_name_in_two_services_have_interfaces_and_marks_of_their_own() -> None:
    names = {interface_name(service, "backbone") for service in ("vpn", "loadbalancer")}
    assert names == {"cn-backbone", "cn-backb-a34f22"}
    found = Link("cn-backbone", "tun", mark("shop/web1/loadbalancer/backbone"), 1500, True)
    with pytest.raises(DriverError, match="or give vpn backbone another name"):
        require_ours(found, "shop/web1/vpn/backbone")


def test_short_names_are_readable_and_long_ones_still_are_a_little() -> None:
    assert interface_name("vpn", "backbone") == "cn-backbone"
    assert interface_name("vpn", "very-long-vpn-name") == "cn-very--c4b7bb"


def test_the_longest_label_fits_into_the_mark_and_is_nobody_elses() -> None:
    longest = ["/".join(["x" * 63] * 3 + [unit]) for unit in ("y" * 63, "y" * 62 + "z")]
    marks = {mark(label) for label in longest}
    assert len(marks) == 2
    assert {len(it) for it in marks} == {ALIAS_BYTES}


def test_an_interface_of_somebody_else_is_refused_with_a_remedy() -> None:
    with pytest.raises(DriverError, match="ip link delete cn-x"):
        require_ours(Link("cn-x", "tun", "mine", 1500, True), "shop/web1/vpn/x")
    require_ours(Link("cn-x", "tun", "cnsmo:shop/web1/vpn/x", 1500, True), "shop/web1/vpn/x")


def test_what_ip_prints_is_read() -> None:
    entry = {
        "ifname": "cn-x", "mtu": 1420, "flags": ["UP", "LOWER_UP"], "ifalias": "cnsmo:a/b/x",
        "linkinfo": {"info_kind": "wireguard"},
        "addr_info": [
            {"family": "inet", "local": "10.66.0.1", "prefixlen": 24, "scope": "global"},
            {"family": "inet6", "local": "fe80::1", "prefixlen": 64, "scope": "link"},
        ],
    }  # fmt: skip
    routes = [
        {"dst": "10.66.0.0/24", "dev": "cn-x", "protocol": "kernel"},
        {"dst": "192.168.7.9", "dev": "cn-x", "flags": []},
        {"dst": "default", "dev": "cn-x", "pref": "medium"},
    ]
    link = parse_link(entry, routes)
    assert link.kind == "wireguard"
    assert link.up
    assert link.addresses == {"10.66.0.1/24"}
    assert link.connected == {"10.66.0.0/24"}
    assert link.routes == {"192.168.7.9/32", "::/0"}


def test_a_route_of_somebody_else_is_found() -> None:
    routes = [{"dst": "192.168.7.0/24", "dev": "eth1"}, {"dst": "192.168.8.0/24", "dev": "cn-x"}]
    wanted = ("192.168.7.0/24", "192.168.8.0/24")
    assert foreign_routes(routes, "cn-x", wanted) == {"192.168.7.0/24": "eth1"}
