# SPDX-License-Identifier: Apache-2.0
"""What a load balancer comes to on its carriers, in deployments drawn by hand."""

from typing import Any

import pytest

from cnsmo.model.resource import Row
from cnsmo.services.base import Listener
from cnsmo.services.loadbalancer.desired import Bind, Checking, Persistence, Route, Vip
from tests.unit.services.loadbalancer.scenes import (
    BALANCER,
    adjusted,
    balancer,
    compiled,
    deployment,
    host,
    instance,
    pool,
    state,
    view,
)


def addresses(rows: list[Row], carrier: str = "edge1") -> dict[str, str]:
    return {server.name: server.address for server in pool(rows, carrier).servers}


def pools(**more: Any) -> dict[str, Any]:
    return {"pool": {"group": "web", "port": 8080, **more}}


def test_the_pool_is_the_groups_hosts_at_their_vpn_addresses() -> None:
    expected = {"web1": "10.66.0.4", "web2": "10.66.0.5", "web3": "10.66.0.6"}
    assert addresses(deployment(balancer())) == expected
    assert addresses(deployment(balancer(**pools(via="backbone"))), "edge2") == expected


def test_over_the_underlay_it_is_the_address_that_the_carrier_can_call() -> None:
    assert addresses(deployment(balancer(**pools(via="underlay")))) == {
        "web1": "10.1.0.21",
        "web2": "198.51.100.22",
        "web3": "198.51.100.23",
    }


def test_who_is_not_in_the_vpn_is_called_over_the_underlay_unless_the_vpn_is_asked_for() -> None:
    vpn = {"members": ["edge", "db"]}
    assert addresses(deployment(balancer(), vpn=vpn))["web1"] == "10.1.0.21"
    asked = compiled(deployment(balancer(**pools(via="backbone")), vpn=vpn))
    assert asked.pools[0].servers == ()
    assert asked.problems == ("pool default is empty: none of web is up and can be reached",)


@pytest.mark.parametrize(
    ("via", "why"),
    [
        ("backbone", "not in the VPN backbone (yet)"),
        ("underlay", "nothing to call on the underlay"),
        (None, "in no VPN with the carrier, and nothing to call on the underlay"),
    ],
)
def test_a_part_of_a_pool_that_cannot_be_reached_is_told(via: str | None, why: str) -> None:
    far = host("web9", "web", private=["10.9.0.9/24"], public=[], site="9")
    made = compiled([*deployment(balancer(**pools(via=via))), far])
    assert len(made.pools[0].servers) == 3
    assert made.problems == (f"pool default is without web9: {why}",)
    assert (
        compiled([*deployment(balancer(**pools(via=via))), far, state("web9", "down")]).problems
        == ()
    )


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("10.1.0.21", "is web1's"),
        ("10.1.0.11", "is this balancer's own"),
        ("10.1.0.77", "is this balancer's own"),
        ("10.1.0.100", "is this balancer's own"),
    ],
)
def test_who_says_to_be_where_another_or_the_balancer_is_is_no_server(
    address: str, why: str
) -> None:
    listen = {"listen": ["10.1.0.77:80"], "vip": "10.1.0.100/24", **pools(via="underlay")}
    honest = compiled(deployment(balancer(**listen)))
    liar = host("web9", "web", private=[f"{address}/24"], public=[], site="1")
    made = compiled([*deployment(balancer(**listen)), liar])
    assert made.pools == honest.pools
    told = f"pool default is without web9: its address {address} {why}"
    assert set(made.problems) - set(honest.problems) == {told}


def test_of_many_that_cannot_be_reached_some_are_named() -> None:
    far = [host(f"web{at}", "web", private=[], public=[]) for at in range(10, 18)]
    made = compiled([*deployment(balancer(**pools(via="underlay"))), *far])
    assert made.problems == (
        "pool default is without web10, web11, web12, web13, web14 and 3 more: nothing to call "
        "on the underlay",
    )


def test_only_carriers_carry() -> None:
    rows = deployment(balancer())
    assert list(BALANCER.compile(view(rows), "edge2")) == ["www"]
    assert BALANCER.compile(view(rows), "web1") == {}
    assert [unit.name for unit in BALANCER.units(view(rows), "edge1")] == ["www"]
    assert BALANCER.units(view(rows), "nobody") == []


def test_who_is_down_is_out_and_comes_back() -> None:
    rows = deployment(balancer())
    assert list(addresses([*rows, state("web2", "down")])) == ["web1", "web3"]
    assert list(addresses([*rows, state("web2", "degraded")])) == ["web1", "web2", "web3"]


def test_where_all_are_said_to_be_down_the_checks_decide() -> None:
    rows = deployment(balancer())
    down = [state(name, "down") for name in ("web1", "web2", "web3")]
    assert list(addresses([*rows, *down])) == ["web1", "web2", "web3"]


def test_an_empty_group_is_a_problem_that_stops_nothing() -> None:
    rows = deployment(balancer(routes=[{"path": "/x", "pool": {"group": "none", "port": 1}}]))
    made = compiled(rows)
    assert made.problems == ("pool 1 is empty: none of none is up and can be reached",)
    assert len(made.pools[0].servers) == 3


def test_weights_are_a_hosts_own_then_its_groups_and_operators_have_the_last_word() -> None:
    rows = deployment(
        balancer(**pools(weights={"web": 5, "web2": 0}, backup=["web3"])),
        adjusted("web1", weight=9),
        adjusted("web3", drain=True),
    )
    said = [(one.name, one.weight, one.backup, one.drain) for one in pool(rows).servers]
    assert said == [
        ("web1", 9, False, False),
        ("web2", 0, False, False),
        ("web3", 5, True, True),
    ]


@pytest.mark.parametrize(
    ("backup", "which"),
    [("web2", ["web2"]), (["web", "db1"], ["web1", "web2", "web3"]),
     ("all", ["web1", "web2", "web3"]), ("edge", []), ([], [])],
)  # fmt: skip
def test_backups_are_hosts_or_groups(backup: Any, which: list[str]) -> None:
    servers = pool(deployment(balancer(**pools(backup=backup)))).servers
    assert [server.name for server in servers if server.backup] == which


def test_what_is_said_of_one_balancer_is_not_said_of_another() -> None:
    rows = deployment(
        balancer("www"), balancer("www2", listen=81), adjusted("web1", "www2", drain=True)
    )
    assert not any(server.drain for server in pool(rows).servers)


def test_routes_have_pools_of_their_own_after_the_default() -> None:
    api = {"name": "api", "host": "api.example.org", "pool": {"hosts": "db1", "port": 9000}}
    rest = {"path": "/static", "pool": {"group": "web", "port": 8081}}
    made = compiled(deployment(balancer(routes=[api, rest])))
    assert [one.name for one in made.pools] == ["default", "api", "2"]
    assert [server.name for server in made.pools[1].servers] == ["db1"]
    assert made.routes == (Route("api", ("api.example.org",)), Route("2", (), "/static"))


def test_the_words_of_the_document_arrive() -> None:
    made = compiled(
        deployment(
            balancer(
                listen=["443", "[2001:DB8::1]:8443"],
                check={"http": "/up", "status": [204, "200-201"], "interval": "200ms"},
                persistence="cookie",
                tls={"certificates": "/etc/ssl/shop.pem", "redirect": 80},
                timeouts={"client": "5m"},
                proxy_protocol={"send": "v2"},
                allow=["192.0.2.7", "10.0.0.0/8"],
            )
        )
    )
    assert made.binds == (Bind("", 443), Bind("2001:db8::1", 8443))
    check = made.pools[0].check
    assert (check.kind, check.path, check.interval) == (Checking.HTTP, "/up", 0.2)
    assert check.statuses == ((200, 201), (204, 204))
    assert made.pools[0].persistence is Persistence.COOKIE
    assert (made.pools[0].cookie, made.pools[0].proxy) == ("CNSMO", "v2")
    assert made.tls is not None
    assert made.tls.redirects == (Bind("", 80),)
    assert made.timeouts.client == 300
    assert made.allow == ("10.0.0.0/8", "192.0.2.7/32")


@pytest.mark.parametrize(("mode", "kind"), [("tcp", Checking.TCP), ("udp", Checking.NONE)])
def test_without_a_word_tcp_is_checked_and_udp_is_not(mode: str, kind: Checking) -> None:
    assert pool(deployment(balancer(mode=mode))).check.kind is kind


def test_carriers_of_a_vip_talk_inside_a_vpn_that_all_are_in() -> None:
    rows = deployment(balancer(vip="10.1.0.100/24"))
    first, second = (compiled(rows, name).vip for name in ("edge1", "edge2"))
    assert first == Vip("10.1.0.100/24", "10.66.0.2", ("10.66.0.3",), 112, 250)
    assert second == Vip("10.1.0.100/24", "10.66.0.3", ("10.66.0.2",), 112, 249)
    assert BALANCER.listens(view(rows), "edge1") == [
        Listener("loadbalancer www", "vrrp", 0, frozenset({"edge2"}), "backbone")
    ]


def test_without_such_a_vpn_they_talk_on_the_vips_own_network() -> None:
    rows = deployment(balancer(vip="10.1.0.100/24"), vpn={"members": ["web"]})
    made = compiled(rows, "edge2").vip
    assert made is not None
    assert (made.source, made.peers) == ("10.1.0.12", ("10.1.0.11",))
    assert [found.network for found in BALANCER.listens(view(rows), "edge2")] == [""]


def test_they_talk_by_their_first_address_there_and_never_by_the_vip_itself() -> None:
    rows = deployment(balancer(on="pair", vip="10.1.0.100/24"), vpn={"members": ["web"]})
    several = [["10.1.0.100/24", "10.1.0.14/24", "10.1.0.3/24"], ["10.1.0.13/24"]]
    carriers = [host(f"c{at}", "pair", private=own, public=[]) for at, own in enumerate(several)]
    made = compiled([*rows, *carriers], "c0").vip
    assert made is not None
    assert (made.source, made.peers) == ("10.1.0.14", ("10.1.0.13",))


def test_a_carrier_that_is_alone_for_the_time_being_holds_the_vip() -> None:
    made = compiled(deployment(balancer(on="db", vip="10.2.0.100/24")), "db1")
    assert made.vip is not None
    assert (made.vip.peers, made.vip.priority, made.problems) == ((), 250, ())


def test_a_carrier_elsewhere_cannot_hold_the_vip_and_says_so() -> None:
    rows = deployment(balancer(vip="10.2.0.100/24"), vpn={"members": ["web"]})
    made = compiled(rows, "edge1")
    assert made.vip is None
    assert made.problems == ("the VIP 10.2.0.100 cannot be held here: no address in 10.2.0.0/24",)


def test_a_carrier_may_serve_itself() -> None:
    rows = deployment(balancer(pool={"hosts": "edge1", "port": 8080, "via": "underlay"}))
    assert addresses(rows) == {"edge1": "10.1.0.11"}
    assert addresses(rows, "edge2") == {"edge1": "10.1.0.11"}


def test_two_vpns_are_asked_by_name() -> None:
    rows = deployment(balancer(**pools(via="blue")))
    blue = instance("blue", cidr="10.77.0.0/24", members=["db"])
    assert pool([*rows, blue, host("other", "x")]).servers == ()
