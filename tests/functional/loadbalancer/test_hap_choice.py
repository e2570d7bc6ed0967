# SPDX-License-Identifier: Apache-2.0
"""Which server is picked: what each algorithm is for, and what becomes of unsteady ones."""

import csv
import dataclasses

import pytest

from cnsmo.services.loadbalancer.desired import Algorithm, Check, LoadBalancerDesired, Server
from cnsmo.services.loadbalancer.drivers import falls
from cnsmo.services.loadbalancer.drivers.falls import FALLS
from cnsmo.services.loadbalancer.drivers.haproxy import AGAIN_SECONDS
from tests.eventually import eventually
from tests.functional.loadbalancer.hap_scene import QUICK, Scene, desired

PATHS = [f"/{it}" for it in range(24)]


def test_who_has_the_fewest_connections_is_picked(scene: Scene) -> None:
    scene.serve(1, 2)
    wanted = desired(*scene.servers(1), algorithm=Algorithm.LEASTCONN)
    scene.settle(wanted)
    held = [scene.begin("ask", path="/slow/3") for _ in range(3)]
    eventually(lambda: scene.observe(wanted).detail["servers"]["www"]["web1"]["sessions"] == 3)
    both = desired(*scene.servers(1, 2), algorithm=Algorithm.LEASTCONN)
    scene.settle(both)
    eventually(lambda: scene.state(both, "web2") == "up")
    assert scene.who(10) == {"web2": 10}
    for process in held:
        process.communicate(timeout=20)
    eventually(lambda: set(scene.who(10)) == {"web1", "web2"})


def test_the_first_gets_all_until_it_falls_and_again_when_it_is_back(scene: Scene) -> None:
    scene.serve(1, 2, 3)
    wanted = desired(*scene.servers(1, 2, 3), algorithm=Algorithm.FIRST)
    scene.settle(wanted)
    assert scene.who(6) == {"web1": 6}
    scene.kill(1)
    assert scene.who(6) == {"web2": 6}
    scene.serve(1)
    eventually(lambda: scene.state(wanted, "web1") == "up")
    assert scene.who(6) == {"web1": 6}


def test_each_path_has_its_server_whoever_asks(scene: Scene) -> None:
    scene.serve(1, 2, 3)
    scene.settle(desired(*scene.servers(1, 2, 3), algorithm=Algorithm.URI))
    before = {path: scene.who(2, path=path) for path in PATHS}
    assert all(len(found) == 1 for found in before.values())
    assert {name for found in before.values() for name in found} == {"web1", "web2", "web3"}
    assert {path: scene.who(2, path=path, address=scene.address6) for path in PATHS} == before


def test_of_what_is_hashed_only_the_share_of_who_left_moves(scene: Scene) -> None:
    scene.serve(1, 2, 3)
    wanted = desired(*scene.servers(1, 2, 3), algorithm=Algorithm.URI, drain=0)
    scene.settle(wanted)
    before = {path: scene.who(1, path=path) for path in PATHS}
    pool = dataclasses.replace(wanted.pools[0], servers=scene.servers(1, 2))
    scene.settle(dataclasses.replace(wanted, pools=(pool,)))
    after = {path: scene.who(1, path=path) for path in PATHS}
    moved = {path for path in PATHS if before[path] != after[path]}
    assert moved == {path for path in PATHS if before[path] == {"web3": 1}}


def cycle(scene: Scene, wanted: LoadBalancerDesired) -> None:
    """The first falls, and is well again."""
    scene.sicken(1)
    eventually(lambda: scene.state(wanted, "web1") == "down")
    scene.sicken(1, sick=False)
    eventually(lambda: scene.state(wanted, "web1") == "up")


def test_who_falls_again_and_again_serves_only_while_no_other_is_well(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.serve(1, 2)
    wanted = desired(*scene.servers(1, 2), drain=0)
    scene.settle(wanted)
    scene.observe(wanted)
    workers = scene.workers
    with scene.load(posts=True) as counted:
        for _ in range(FALLS):
            assert scene.apply(wanted) == []
            cycle(scene, wanted)
        assert scene.observe(wanted).again == AGAIN_SECONDS
        assert scene.apply(wanted) == []  # it is no drift that was repaired
        scene.follow(wanted)
        (problem,) = scene.observe(wanted).problems
        assert problem.startswith(f"web1 in the pool www fell {FALLS} times or more")
        assert scene.who() == {"web2": 20}
        assert scene.state(wanted, "web1") == "up"
    assert counted[0].lost == {}
    assert scene.workers == workers
    scene.sicken(2)
    eventually(lambda: scene.who() == {"web1": 20})
    scene.sicken(2, sick=False)
    eventually(lambda: scene.who() == {"web2": 20})
    monkeypatch.setattr(falls, "WITHIN_SECONDS", 0.0)
    scene.follow(wanted)
    eventually(lambda: set(scene.who()) == {"web1", "web2"})
    assert scene.observe(wanted).problems == ()


def test_who_is_drained_again_and_again_fell_not_once(scene: Scene) -> None:
    scene.serve(1, 2)
    wanted = desired(*scene.servers(1, 2), drain=0)
    web1, web2 = scene.servers(1, 2)
    drained = desired(dataclasses.replace(web1, drain=True), web2, drain=0)
    scene.settle(wanted)
    for _ in range(FALLS):
        scene.apply(drained)
        eventually(lambda: scene.state(drained, "web1") == "drain")
        scene.apply(wanted)
        eventually(lambda: scene.state(wanted, "web1") == "up")
    scene.follow(wanted)
    assert scene.observe(wanted).problems == ()
    assert set(scene.who()) == {"web1", "web2"}


def test_checks_that_come_out_good_and_bad_in_turn_change_nothing(scene: Scene) -> None:
    scene.serve(1, 2)
    check = dataclasses.replace(QUICK, path="/healthz/turns", rise=2, fall=2)
    wanted = desired(*scene.servers(1, 2), check=check)
    scene.settle(wanted)
    with scene.load() as counted:
        for address in (scene.server(1), scene.server(2)):
            begun = turns(scene, address)
            eventually(lambda it=address, since=begun: turns(scene, it) > since + 10)
        assert scene.state(wanted, "web1") == scene.state(wanted, "web2") == "up"
    assert counted[0].lost == {}


def turns(scene: Scene, server: Server) -> int:
    """How many such checks a server has answered."""
    return int(scene.ask(address=server.address, port=server.port)["said"]["turns"])


@pytest.mark.parametrize("timeout", [0.1, 3.0])
def test_a_checks_connection_may_take_its_interval_whatever_the_timeout(
    scene: Scene, timeout: float
) -> None:
    """HAProxy's own rule (configuration manual, timeout check), which the documentation tells."""
    scene.serve(1)
    scene.pool.run("nft add table inet mute")
    scene.pool.run("nft add chain inet mute in { type filter hook input priority 0 ; }")
    scene.pool.run("nft add rule inet mute in tcp dport 8001 drop")
    try:
        wanted = desired(scene.server(1), check=Check(interval=0.5, timeout=timeout, fall=1))
        scene.apply(wanted)
        eventually(lambda: checked(scene)["check_status"] == "L4TOUT", 10)
    finally:
        scene.pool.run("nft delete table inet mute")
    assert 500 <= int(checked(scene)["check_duration"]) < 1000


def checked(scene: Scene) -> dict[str, str]:
    """What haproxy itself says of the only server."""
    lines = scene.admin("show stat").removeprefix("# ").splitlines()
    return next(row for row in csv.DictReader(lines) if row["svname"].startswith("web1"))
