# SPDX-License-Identifier: Apache-2.0
"""The nftables driver: servers come, are drained and leave, and no flow suffers."""

import contextlib
import dataclasses
import time

import pytest

from cnsmo.services.kit import boot
from cnsmo.services.loadbalancer.desired import Bind, Mode, Persistence
from tests.eventually import eventually
from tests.functional.loadbalancer.nft_scene import (
    ADDRESSES,
    NAMES,
    NONE,
    Scene,
    balancer,
    kill,
    server,
)

pytest_plugins = ["tests.functional.loadbalancer.nft_scene"]

LIVE = ("pick-4", "known", "answers", "strays-back", "to-10.9.0.4-8080", "new-to-10.9.0.4-8080")
"""The chains that know which servers there are, and those of the one that comes and goes."""


def test_a_server_that_is_drained_keeps_what_it_has_and_gets_nothing(nft_scene: Scene) -> None:
    nft_scene.settle(balancer("a"))
    talk = nft_scene.talk()
    assert talk.say() == "a"
    drained = balancer(server("a", drain=True), "b")
    assert nft_scene.settle(drained, 1) == [
        "server a (10.9.0.3:8080) is drained",
        "server b (10.9.0.4:8080) joins",
    ]
    assert nft_scene.shares(6) == {"b": 6}
    assert talk.say() == "a"
    assert nft_scene.states(drained) == {"a": "drain", "b": "up"}
    nft_scene.settle(balancer("a", "b"))
    assert nft_scene.shares(6) == {"a": 3, "b": 3}


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_who_left_keeps_flows_until_the_drain_is_over(nft_scene: Scene, kind: str) -> None:
    mode = Mode(kind)
    nft_scene.settle(balancer("a", mode=mode))
    talk = nft_scene.talk(kind)
    assert talk.say() == "a"
    left = balancer("b", mode=mode, drain=60.0)
    assert "server a (10.9.0.3:8080) leaves" in nft_scene.settle(left, 1)
    assert nft_scene.states(left) == {"a": "leaving", "b": "up"}
    assert nft_scene.shares(6, kind=kind) == {"b": 6}
    assert talk.say() == "a"
    began = time.monotonic()
    sooner = dataclasses.replace(left, drain=1.0)
    assert nft_scene.driver.apply(sooner) == []
    eventually(lambda: nft_scene.states(sooner) == {"b": "up"}, 5)
    assert time.monotonic() - began >= 1.0
    eventually(lambda: "10.9.0.3" not in nft_scene.lb.run("conntrack -L --dst-nat"), 5)
    assert talk.say() == ("ECONNRESET" if kind == "tcp" else "b")
    eventually(lambda: "to-10.9.0.3" not in nft_scene.table(), 5)
    assert nft_scene.driver.apply(sooner) == []


@pytest.mark.parametrize("kind", ["tcp", "udp"])
@pytest.mark.parametrize("deaf", [False, True], ids=["others are well", "nobody else is well"])
def test_who_is_distrusted_keeps_nothing(nft_scene: Scene, kind: str, deaf: bool) -> None:
    mode = Mode(kind)
    nft_scene.settle(balancer("a", mode=mode))
    talk = nft_scene.talk(kind)
    assert talk.say() == "a"
    out = balancer("b", mode=mode, drain=600.0, distrusted=("a",))
    with nft_scene.bed.deaf("b") if deaf else contextlib.nullcontext():
        nft_scene.driver.apply(out)
        assert nft_scene.used() in ((), ("10.9.0.4 8080",))
        eventually(lambda: "10.9.0.3" not in nft_scene.lb.run("conntrack -L --dst-nat"), 5)
        assert talk.say() != "a"
    eventually(lambda: nft_scene.driver.apply(out) == [] and "a" not in nft_scene.states(out), 5)


def test_a_pool_that_is_replaced_as_a_whole_is_served_by_those_who_leave(
    nft_scene: Scene,
) -> None:
    nft_scene.settle(balancer("a"))
    left = balancer("b", drain=60.0)
    with nft_scene.bed.deaf("b"):
        nft_scene.driver.apply(left)
        assert nft_scene.shares(6) == {"a": 6}
        assert nft_scene.states(left) == {"a": "leaving", "b": "down"}
    nft_scene.await_used(1)
    assert nft_scene.shares(6) == {"b": 6}


def test_a_flow_that_begins_on_a_server_that_is_held_has_the_drain(nft_scene: Scene) -> None:
    """Nobody else becomes well: its time to serve on is over while the flow is there."""
    nft_scene.settle(balancer("a"))
    left = balancer("b", drain=2.0)
    with nft_scene.bed.deaf("b"):
        nft_scene.driver.apply(left)
        talk = nft_scene.talk()
        why = nft_scene.driver.observe(left).detail["servers"]["web"]["a"]["why"]
        assert why.startswith("nobody else is well: it serves on, for ")
        eventually(lambda: nft_scene.used() == (), 5, "nobody serves")
        (until,) = nft_scene.leaving()
        assert 1.0 < until - boot.now() <= 2.0
        assert talk.say() == "a"
        eventually(lambda: talk.say() == "ECONNRESET", 5, "the end of the drain")


def test_who_is_held_is_checked_still(nft_scene: Scene) -> None:
    nft_scene.settle(balancer("a", "b"))
    left = balancer("c", drain=60.0)
    with nft_scene.bed.deaf("c"):
        nft_scene.driver.apply(left)
        assert set(nft_scene.shares(6)) == {"a", "b"}
        nft_scene.bed.kill("a")
        eventually(lambda: nft_scene.used() == ("10.9.0.4 8080",), 2, "the dead one is out")
        assert nft_scene.shares(6) == {"b": 6}
        nft_scene.bed.serve("a")
        eventually(lambda: len(nft_scene.used()) == 2, 5, "it is back")


def test_a_drain_goes_on_in_the_next_agent_and_in_the_next_checker(nft_scene: Scene) -> None:
    nft_scene.settle(balancer("a", "b"))
    nft_scene.driver.apply(balancer("b", drain=60.0))
    (before,) = nft_scene.leaving()
    for pid in nft_scene.checkers():
        kill(nft_scene.lb, pid)
    eventually(lambda: nft_scene.checkers() == [])
    assert nft_scene.fresh().apply(balancer("b", drain=70.0)) == ["the checker is started"]
    assert nft_scene.leaving() == [before]  # a longer drain is for who leaves later
    nft_scene.driver.apply(balancer("b", drain=0.5))
    eventually(lambda: nft_scene.driver.apply(balancer("b", drain=70.0)) or not nft_scene.leaving())
    eventually(lambda: "to-10.9.0.3" not in nft_scene.table(), 5)


def test_without_a_drain_flows_end_at_once(nft_scene: Scene) -> None:
    nft_scene.settle(balancer("a"))
    talk = nft_scene.talk()
    assert talk.say() == "a"
    nft_scene.settle(balancer("b", drain=0.0))
    assert talk.say() == "ECONNRESET"


def test_who_comes_back_while_he_leaves_keeps_his_flows(nft_scene: Scene) -> None:
    nft_scene.settle(balancer("a", "c"))
    talk = nft_scene.talk()
    first = talk.say()
    nft_scene.settle(balancer("b", drain=60.0), 1)
    changes = nft_scene.settle(balancer(first, "b", drain=0.2))
    assert changes == [f"server {first} ({ADDRESSES[first]}:8080) is back"]
    other = {"a": "c", "c": "a"}[first]
    eventually(lambda: f"to-{ADDRESSES[other]}" not in nft_scene.table(), 5)  # his time is over
    assert talk.say() == first


def test_flows_of_another_balancer_are_left_alone(nft_scene: Scene) -> None:
    nft_scene.beside("api", balancer("a", binds=(Bind("", 81),), check=NONE))
    nft_scene.settle(balancer("a"))
    talks = [nft_scene.talk(), nft_scene.talk(port=81)]
    assert [talk.say() for talk in talks] == ["a", "a"]
    nft_scene.settle(balancer("b", drain=0.0))
    assert [talk.say() for talk in talks] == ["ECONNRESET", "a"]


def test_backups_serve_while_nobody_else_can(nft_scene: Scene) -> None:
    wanted = balancer("a", server("b", backup=True), server("c", backup=True))
    nft_scene.settle(wanted, 1)
    assert nft_scene.shares(4) == {"a": 4}
    nft_scene.settle(balancer(server("a", drain=True), *wanted.pools[0].servers[1:]), 2)
    assert nft_scene.shares(4) == {"b": 2, "c": 2}
    nft_scene.settle(wanted, 1)
    assert nft_scene.shares(4) == {"a": 4}


@pytest.mark.parametrize("persistence", list(Persistence)[:2])
def test_one_server_more_or_less_touches_nothing_else(
    nft_scene: Scene, persistence: Persistence
) -> None:
    nft_scene.settle(balancer("a", "b", persistence=persistence))
    nft_scene.calm()
    before = nft_scene.handles()
    nft_scene.settle(balancer(*NAMES, persistence=persistence))
    nft_scene.settle(balancer(server("a", weight=5), "c", persistence=persistence, drain=0))
    after = nft_scene.handles()
    changed = {name for name in before if before[name] != after.get(name)}
    assert all(name.startswith(LIVE) for name in changed), changed
    assert "pick-4" in changed
    assert nft_scene.driver.observe(balancer(server("a", weight=5), "c", drain=0)).detail


def test_no_connection_fails_while_servers_come_and_go(nft_scene: Scene) -> None:
    """Every server is well all the time; only who is in the pool changes, and the agent."""
    nft_scene.settle(balancer(*NAMES))
    load = nft_scene.load()
    for turn in range(50):
        away = NAMES[turn % 3]
        servers = [server(name, weight=1 + turn % 5) for name in NAMES if name != away]
        if turn % 10 == 9:
            nft_scene.fresh()
        nft_scene.driver.apply(balancer(*servers, drain=5.0))
        nft_scene.await_used(2)
    nft_scene.driver.apply(balancer(*servers, drain=0.5))
    eventually(lambda: f"to-{ADDRESSES[away]}" not in nft_scene.table(), 10)  # under load, too
    nft_scene.settle(balancer(*NAMES))
    answered, failures = load.end()
    assert failures == []
    assert set(answered) == set(NAMES)
    assert sum(answered.values()) > 500


def test_a_structural_change_keeps_flows_and_fails_none(nft_scene: Scene) -> None:
    wanted = balancer(*NAMES, persistence=Persistence.SOURCE)
    nft_scene.settle(wanted)
    talk = nft_scene.talk()
    first = talk.say()
    load = nft_scene.load(1)
    for turn in range(10):
        allow = ("10.9.0.0/24",) if turn % 2 else ()
        persistence = Persistence.SOURCE if turn % 3 else Persistence.NONE
        binds = (*wanted.binds, Bind("", 90 + turn))
        nft_scene.settle(
            dataclasses.replace(balancer(*NAMES, persistence=persistence), allow=allow, binds=binds)
        )
    assert load.end()[1] == []
    assert talk.say() == first
