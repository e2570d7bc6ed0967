# SPDX-License-Identifier: Apache-2.0
"""The nftables driver: who gets which flow. Real packets through real rules."""

import collections

import pytest

from cnsmo.model.errors import DriverError
from cnsmo.services.loadbalancer.desired import Algorithm, Bind, Mode, Persistence
from tests.functional.loadbalancer.nft_scene import (
    BALANCED,
    LB,
    LB6,
    NAMES,
    NONE,
    PORT,
    SOURCES,
    Scene,
    balancer,
    server,
    server6,
)

pytest_plugins = ["tests.functional.loadbalancer.nft_scene"]


# --- whose turn it is ---------------------------------------------------------------------


def test_flows_are_shared_in_turn(nft_scene: Scene) -> None:
    nft_scene.settle(balancer(*NAMES))
    answers = nft_scene.ask(30)
    assert collections.Counter(answers) == dict.fromkeys(NAMES, 10)
    assert answers[:3] == answers[3:6]


def test_a_heavier_server_has_more_turns(nft_scene: Scene) -> None:
    nft_scene.settle(balancer(server("a", weight=10), server("b", weight=20), server("c")))
    assert nft_scene.shares(62) == {"a": 20, "b": 40, "c": 2}


def test_chance_follows_the_weights(nft_scene: Scene) -> None:
    servers = (server("a", weight=64), server("b", weight=192), server("c", weight=0))
    nft_scene.settle(balancer(*servers, algorithm=Algorithm.RANDOM), 2)
    shares = nft_scene.shares(600)
    assert set(shares) == {"a", "b"}
    assert abs(shares["a"] - 150) < 6 * (600 * 0.25 * 0.75) ** 0.5


def test_a_clients_address_leads_to_the_same_server(nft_scene: Scene) -> None:
    by_source = balancer(*NAMES, algorithm=Algorithm.SOURCE)
    nft_scene.settle(by_source)
    first = nft_scene.of_sources()
    assert set(first.values()) == set(NAMES)
    assert nft_scene.of_sources() == first
    nft_scene.settle(balancer("a", "b", algorithm=Algorithm.SOURCE, drain=0))
    fewer = nft_scene.of_sources()
    assert {it: who for it, who in first.items() if who != "c"}.items() <= fewer.items()
    nft_scene.settle(by_source)
    assert nft_scene.of_sources() == first


def test_a_remembered_client_stays_while_servers_come_and_go(nft_scene: Scene) -> None:
    pair = balancer("a", "b", persistence=Persistence.SOURCE)
    everybody = balancer(*NAMES, persistence=Persistence.SOURCE)
    nft_scene.settle(pair)
    first = nft_scene.of_sources(SOURCES[:20])
    assert collections.Counter(first.values()) == {"a": 10, "b": 10}
    nft_scene.settle(everybody)
    assert nft_scene.of_sources(SOURCES[:20]) == first
    later = nft_scene.of_sources(SOURCES[20:])
    assert "c" in later.values()
    nft_scene.settle(balancer("b", "c", persistence=Persistence.SOURCE))
    moved = nft_scene.of_sources()
    kept = {it: who for it, who in {**first, **later}.items() if who != "a"}
    assert kept.items() <= moved.items()
    nft_scene.settle(everybody)
    assert nft_scene.of_sources() == moved  # who found another server does not go back


def test_clients_of_ipv6_are_remembered_too(nft_scene: Scene) -> None:
    six = balancer(server6("a"), server6("b"), persistence=Persistence.SOURCE)
    nft_scene.settle(six)
    assert len(set(nft_scene.ask(6, address=LB6))) == 1


# --- what arrives -------------------------------------------------------------------------


def test_datagrams_of_one_flow_go_to_one_server(nft_scene: Scene) -> None:
    nft_scene.settle(balancer("a", "b", mode=Mode.UDP))
    assert nft_scene.shares(20, kind="udp") == {"a": 10, "b": 10}
    talk = nft_scene.talk("udp")
    assert len({talk.say() for _ in range(5)}) == 1
    assert nft_scene.ask() == ["ECONNREFUSED"]  # nobody balances TCP here


def test_each_ip_version_has_its_servers(nft_scene: Scene) -> None:
    nft_scene.settle(balancer("a", server6("b"), server6("c")))
    assert nft_scene.shares(4) == {"a": 4}
    assert nft_scene.shares(4, address=LB6) == {"b": 2, "c": 2}
    nft_scene.settle(balancer("a", drain=0), 1)
    assert nft_scene.ask(address=LB6) == ["ECONNREFUSED"]
    assert nft_scene.ask() == ["a"]


def test_clients_on_the_carrier_itself_are_balanced(nft_scene: Scene) -> None:
    nft_scene.settle(balancer("a", "b", server6("c")))
    assert nft_scene.shares(4, vm=nft_scene.lb) == {"a": 2, "b": 2}
    assert nft_scene.ask(address=LB6, vm=nft_scene.lb) == ["c"]
    assert nft_scene.ask(address="127.0.0.1", vm=nft_scene.lb) == ["ECONNREFUSED"]


def test_only_whom_it_allows_gets_in(nft_scene: Scene) -> None:
    allowed = ("10.9.0.0/28", "10.9.0.4/30", "fd09::/126")
    nft_scene.settle(balancer("a", server6("b"), allow=allowed))
    assert nft_scene.ask() == ["a"]
    assert nft_scene.ask(address=LB6) == ["b"]
    assert set(nft_scene.of_sources(SOURCES[:3]).values()) == {"ECONNREFUSED"}
    nft_scene.settle(balancer("a", server6("b"), allow=(f"{SOURCES[0]}/32",)))
    assert nft_scene.of_sources(SOURCES[:1]) == {SOURCES[0]: "a"}
    assert nft_scene.ask() == ["ECONNREFUSED"]
    assert nft_scene.ask(address=LB6) == ["ECONNREFUSED"]


def test_it_listens_where_it_is_told_to(nft_scene: Scene) -> None:
    binds = (Bind(LB, 81), Bind("192.168.7.1", 82), Bind(LB6, 83), Bind("", 84))
    nft_scene.settle(balancer("a", server6("b"), binds=binds))
    found = {
        (address, port): nft_scene.ask(address=address, port=port)[0]
        for address in (LB, "192.168.7.1", LB6)
        for port in (81, 82, 83, 84)
    }
    assert {place: who for place, who in found.items() if who in NAMES} == {
        (LB, 81): "a", (LB, 84): "a", ("192.168.7.1", 82): "a", ("192.168.7.1", 84): "a",
        (LB6, 83): "b", (LB6, 84): "b",
    }  # fmt: skip
    told = nft_scene.driver.observe(balancer("a", server6("b"), binds=binds)).detail["frontends"]
    assert {place: it["total"] for place, it in told.items()} == {
        "10.9.0.2:81": 1, "192.168.7.1:82": 1, "[fd09::2]:83": 1, "*:84": 3,
    }  # fmt: skip


def test_answers_come_back_from_another_network(nft_scene: Scene) -> None:
    nft_scene.settle(balancer("inside"))
    assert nft_scene.ask(3) == ["inside"] * 3
    assert nft_scene.talk(vm=nft_scene.bed.inside, address="192.168.7.1").say() == "inside"


def test_a_server_on_the_carrier_gets_its_share(nft_scene: Scene) -> None:
    nft_scene.bed.serve("lb")
    try:
        nft_scene.settle(balancer("a", server("lb")))
        assert nft_scene.shares(4, vm=nft_scene.lb) == {"a": 2, "lb": 2}
        assert nft_scene.shares(4) == {"a": 2, "lb": 2}
        own = balancer("a", server("lb", address="192.168.7.1", port=BALANCED))
        nft_scene.settle(own)
        assert nft_scene.shares(4) == {"a": 2, "lb": 2}
        assert nft_scene.shares(4, address="192.168.7.1") == {"lb": 4}  # its own address
    finally:
        nft_scene.bed.kill("lb")


# --- what belongs to no flow --------------------------------------------------------------


def test_the_middle_of_a_flow_that_nobody_knows_is_reset(nft_scene: Scene) -> None:
    nft_scene.settle(balancer("a"))
    talk = nft_scene.talk()
    assert talk.say() == "a"
    nft_scene.lb.run("conntrack -F")
    assert talk.say() == "ECONNRESET"


@pytest.mark.parametrize("sender", ["client", "a"])
def test_a_packet_that_seems_to_belong_to_no_flow_ends_none(nft_scene: Scene, sender: str) -> None:
    """Nobody would translate it; the carrier would take it for its own, and answer with a reset."""
    nft_scene.settle(balancer("a"))
    talk = nft_scene.talk()

    def stray() -> str:
        port, sent, received = talk.where()
        far = 1 << 30  # further than the other side can take
        if sender == "client":
            nft_scene.forge("client", "10.9.0.1", port, BALANCED, sent + far, received)
        else:
            nft_scene.forge("a", "10.9.0.3", PORT, port, received + far, sent)
        return talk.say()

    assert [talk.say(), stray(), stray()] == ["a", "a", "a"]
    nft_scene.lb.run("nft flush chain inet cnsmo-lb-www strays")
    assert stray() != "a"


# --- what cannot be -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        balancer("a", mode=Mode.HTTP),
        balancer("a", algorithm=Algorithm.LEASTCONN),
        balancer("a", persistence=Persistence.COOKIE),
        balancer("a", server("a", weight=2)),
        balancer(server("a", address=LB, port=BALANCED), binds=(Bind(LB, BALANCED),)),
        balancer("a", binds=()),
    ],
)
def test_what_it_cannot_do_is_refused_and_changes_nothing(nft_scene: Scene, wrong) -> None:
    nft_scene.settle(balancer("a", check=NONE))
    before = nft_scene.table()
    with pytest.raises(DriverError):
        nft_scene.driver.apply(wrong)
    assert nft_scene.table() == before
    assert nft_scene.ask(port=PORT) == ["ECONNREFUSED"]
    assert nft_scene.driver.apply(balancer("a", check=NONE)) == []
