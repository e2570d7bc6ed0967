# SPDX-License-Identifier: Apache-2.0
"""The checker of the nftables driver: who is well is in, who is not is out, agent or no agent."""

import dataclasses

import pytest

from cnsmo.services.loadbalancer.desired import Check, Checking, Mode, Persistence
from cnsmo.services.loadbalancer.drivers import falls
from tests.eventually import eventually
from tests.functional.loadbalancer.nft_scene import (
    FAST,
    LB6,
    NAMES,
    NONE,
    Scene,
    balancer,
    kill,
    server,
    server6,
)

pytest_plugins = ["tests.functional.loadbalancer.nft_scene"]

BOUND = FAST.interval * FAST.fall + 1
"""Seconds within which a server that died is out."""
HTTP = dataclasses.replace(FAST, kind=Checking.HTTP, path="/healthz", host="shop.example")


def test_a_killed_server_is_out_in_time_and_in_again_when_it_is_back(nft_scene: Scene) -> None:
    wanted = balancer("a", "b")
    nft_scene.settle(wanted)
    nft_scene.bed.kill("a")
    nft_scene.await_used(1, BOUND)
    assert nft_scene.shares(6) == {"b": 6}
    assert nft_scene.states(wanted) == {"a": "down", "b": "up"}
    told = nft_scene.driver.observe(wanted).detail["servers"]["web"]["a"]
    assert told["why"] == "connection refused"
    nft_scene.bed.serve("a")
    nft_scene.await_used(2)
    assert nft_scene.shares(6) == {"a": 3, "b": 3}


def test_who_falls_again_and_again_serves_only_while_no_other_is_well(
    nft_scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = balancer("a", "b", check=HTTP)
    nft_scene.settle(wanted)
    assert nft_scene.driver.observe(wanted).problems == ()
    for _ in range(falls.FALLS):
        assert nft_scene.driver.apply(wanted) == []
        nft_scene.answer_with("a", 503)
        nft_scene.await_used(1, BOUND)
        nft_scene.answer_with("a", 200)
        nft_scene.await_used(2)
        nft_scene.driver.observe(wanted)
    assert nft_scene.driver.observe(wanted).again is not None
    assert nft_scene.driver.apply(wanted) == []  # it is no drift that was repaired
    (problem,) = nft_scene.driver.observe(wanted).problems
    assert problem.startswith("a in the pool web fell 3 times or more")
    assert nft_scene.driver.observe(wanted).drift == ()
    assert nft_scene.shares(6) == {"b": 6}
    nft_scene.answer_with("b", 503)
    eventually(lambda: nft_scene.shares(6) == {"a": 6}, BOUND)
    nft_scene.answer_with("b", 200)
    eventually(lambda: nft_scene.shares(6) == {"b": 6})
    monkeypatch.setattr(falls, "WITHIN_SECONDS", 0.0)
    nft_scene.driver.observe(wanted)
    nft_scene.driver.apply(wanted)
    assert nft_scene.shares(6) == {"a": 3, "b": 3}
    assert nft_scene.driver.observe(wanted).problems == ()


def test_a_server_that_vanished_is_out_in_time(nft_scene: Scene) -> None:
    """Nobody says no; more than one check is under way, since the timeout is longer than theirs."""
    slow = dataclasses.replace(FAST, timeout=0.7)
    nft_scene.settle(balancer("a", "b", check=slow))
    with nft_scene.bed.deaf("a"):
        nft_scene.await_used(1, BOUND)
        assert nft_scene.shares(4) == {"b": 4}


def test_the_checker_needs_no_agent(nft_scene: Scene) -> None:
    """Between the death of a server and the proof that it is out, only a file is looked at."""
    nft_scene.settle(balancer(*NAMES))
    nft_scene.bed.kill("b")
    nft_scene.await_used(2, BOUND)
    assert set(nft_scene.ask(9)) == {"a", "c"}


def test_http_is_judged_by_the_status(nft_scene: Scene) -> None:
    wanted = balancer("a", "b", check=HTTP)
    nft_scene.settle(wanted)
    nft_scene.answer_with("a", 503)
    nft_scene.await_used(1)
    seen = nft_scene.driver.observe(wanted).detail["servers"]["web"]
    assert (seen["a"]["state"], seen["a"]["why"]) == ("down", "HTTP 503")
    assert (seen["b"]["state"], seen["b"]["why"]) == ("up", "HTTP 200")
    nft_scene.answer_with("a", 399)
    nft_scene.await_used(2)


def test_without_a_server_flows_are_refused_until_one_is_back(nft_scene: Scene) -> None:
    wanted = balancer("a")
    nft_scene.settle(wanted)
    nft_scene.bed.kill("a")
    nft_scene.await_used(0)
    assert nft_scene.ask() == ["ECONNREFUSED"]
    seen = nft_scene.driver.observe(wanted)
    assert seen.problems == ("no server is up: new flows over IPv4 are refused",)
    assert seen.drift == ()
    nft_scene.bed.serve("a")
    nft_scene.await_used(1)
    assert nft_scene.ask() == ["a"]
    assert nft_scene.driver.observe(wanted).problems == ()
    empty = balancer(drain=0)
    nft_scene.settle(empty)
    assert nft_scene.ask() == ["ECONNREFUSED"]
    assert nft_scene.driver.observe(empty).problems


def test_a_newcomer_serves_after_its_first_good_check(nft_scene: Scene) -> None:
    check = Check(interval=0.2, timeout=0.5, rise=100, fall=100)
    nft_scene.bed.kill("b")
    wanted = balancer("a", "b", check=check)
    nft_scene.settle(wanted, 1)
    eventually(lambda: nft_scene.states(wanted) == {"a": "up", "b": "down"})
    assert nft_scene.driver.observe(wanted).problems == ()
    nft_scene.bed.serve("b")
    nft_scene.await_used(2)


def test_clients_of_udp_move_when_their_server_falls(nft_scene: Scene) -> None:
    nft_scene.settle(balancer("a", "b", mode=Mode.UDP))
    talk = nft_scene.talk("udp")
    first = talk.say()
    nft_scene.bed.kill(first)
    nft_scene.await_used(1)
    other = {"a": "b", "b": "a"}[first]
    eventually(lambda: talk.say() == other, 10, "another server answers the same flow")


def test_who_waits_for_a_fallen_server_is_answered_by_another(nft_scene: Scene) -> None:
    """The first packet went to a server that is gone; the client's kernel asks once more."""
    nft_scene.settle(balancer("a", "b", check=Check(interval=0.2, timeout=0.3, fall=2)))
    with nft_scene.bed.deaf("a"):
        answers = nft_scene.ask(4)
    assert answers == ["b"] * 4


def test_a_remembered_client_finds_another_server_when_his_falls(nft_scene: Scene) -> None:
    nft_scene.settle(balancer("a", "b", persistence=Persistence.SOURCE))
    (first,) = set(nft_scene.ask(3))
    nft_scene.bed.kill(first)
    nft_scene.await_used(1)
    (second,) = set(nft_scene.ask(3))
    assert second != first
    nft_scene.bed.serve(first)
    nft_scene.await_used(2)
    assert set(nft_scene.ask(3)) == {second}


def test_a_check_that_is_declared_later_takes_nobody_out(nft_scene: Scene) -> None:
    wanted = balancer("a", "b", check=NONE)
    nft_scene.settle(wanted)
    assert nft_scene.states(wanted) == {"a": "unchecked", "b": "unchecked"}
    load = nft_scene.load(1)
    nft_scene.settle(balancer("a", "b", check=FAST))
    eventually(lambda: nft_scene.states(balancer("a", "b")) == {"a": "up", "b": "up"})
    nft_scene.settle(balancer("a", "b", check=HTTP))
    assert nft_scene.ask(4)
    assert load.end()[1] == []


@pytest.mark.parametrize("gone", ["killed", "stopped"])
def test_a_dead_checker_costs_no_flow_and_the_next_goes_on(nft_scene: Scene, gone: str) -> None:
    wanted = balancer("a", "b")
    nft_scene.settle(wanted)
    nft_scene.bed.kill("b")
    nft_scene.await_used(1)
    load = nft_scene.load(1)
    (pid,) = nft_scene.checkers()
    kill(nft_scene.lb, pid, 9 if gone == "killed" else 15)
    eventually(lambda: nft_scene.checkers() == [])
    assert nft_scene.fresh().observe(wanted).drift == ("the checker does not run",)
    assert nft_scene.driver.apply(wanted) == ["the checker is started"]
    assert nft_scene.used() == ("10.9.0.3 8080",)
    assert nft_scene.driver.observe(wanted).drift == ()
    nft_scene.bed.serve("b")
    nft_scene.await_used(2)
    assert load.end()[1] == []


def test_the_next_agent_adopts_the_checker(nft_scene: Scene) -> None:
    wanted = balancer("a", "b")
    nft_scene.settle(wanted)
    before = nft_scene.checkers()
    assert nft_scene.fresh().apply(wanted) == []
    nft_scene.fresh().apply(balancer("a", drain=0))
    assert nft_scene.checkers() == before
    assert len(before) == 1


def test_a_checker_of_another_release_is_replaced(nft_scene: Scene, monkeypatch) -> None:
    wanted = balancer("a", "b")
    nft_scene.settle(wanted)
    before = nft_scene.checkers()
    with monkeypatch.context() as patched:
        patched.setattr("cnsmo.services.loadbalancer.drivers.nfl_keeper.release", lambda: "next")
        assert nft_scene.driver.observe(wanted).drift == ("the checker is of another release",)
        assert nft_scene.driver.apply(wanted) == ["the checker is started"]
    assert nft_scene.checkers() != before
    assert len(nft_scene.checkers()) == 1


def test_a_checker_that_hangs_is_seen_and_replaced(nft_scene: Scene) -> None:
    """Also one that hangs while it keeps everybody else out."""
    wanted = balancer("a", "b")
    nft_scene.settle(wanted)
    (hung,) = nft_scene.checkers()
    nft_scene.lb.run(f"kill -STOP {hung}")
    eventually(lambda: nft_scene.driver._keeper.hangs, 20)
    with nft_scene.driver._files.lock(1) as mine:
        assert mine
        assert nft_scene.fresh().observe(wanted).drift == ("the checker hangs",)
    assert nft_scene.driver.apply(wanted) == ["the checker is started"]
    assert hung not in nft_scene.checkers()
    assert nft_scene.driver.observe(wanted).drift == ()
    nft_scene.bed.kill("b")
    nft_scene.await_used(1)


def test_the_checker_waits_for_a_driver_that_is_at_work(nft_scene: Scene) -> None:
    nft_scene.settle(balancer("a", "b"))
    with nft_scene.driver._files.lock(1) as mine:
        assert mine
        nft_scene.bed.kill("b")
        eventually(lambda: not nft_scene.health("b"), BOUND)
        assert len(nft_scene.used()) == 2
    nft_scene.await_used(1, 1)


def test_where_the_table_was_flushed_the_checker_loads_it_anew(nft_scene: Scene) -> None:
    wanted = balancer("a", "b")
    nft_scene.settle(wanted)
    nft_scene.lb.run("nft flush ruleset")
    nft_scene.bed.kill("b")
    nft_scene.await_used(1)
    assert nft_scene.ask(2) == ["a", "a"]
    assert nft_scene.fresh().apply(wanted) == []


def test_figures_are_told(nft_scene: Scene) -> None:
    wanted = balancer(server("a", weight=3), server6("b"))
    nft_scene.settle(wanted)
    nft_scene.driver.observe(wanted)
    talks = [nft_scene.talk(), nft_scene.talk(), nft_scene.talk(address=LB6)]
    assert [talk.say() for talk in talks] == ["a", "a", "b"]
    nft_scene.ask(2)
    detail = nft_scene.driver.observe(wanted).detail
    assert detail["vip"] is False
    a, b = detail["servers"]["web"]["a"], detail["servers"]["web"]["b"]
    assert (a["sessions"], a["total"], a["weight"], a["address"]) == (2, 4, 3, "10.9.0.3:8080")
    assert (b["sessions"], b["total"], b["address"]) == (1, 1, "[fd09::4]:8080")
    assert a["rate"] > b["rate"] > 0
    front = detail["frontends"]["*:80"]
    assert (front["sessions"], front["total"]) == (3, 5)
    assert front["rate"] >= a["rate"]
