# SPDX-License-Identifier: Apache-2.0
"""Which server is picked: what each algorithm is for."""

import dataclasses

from cnsmo.services.loadbalancer.desired import Algorithm
from tests.eventually import eventually
from tests.functional.loadbalancer.hap_scene import Scene, desired

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
