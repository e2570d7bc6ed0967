# SPDX-License-Identifier: Apache-2.0
"""Nothing is lost, whatever changes."""

import contextlib
import dataclasses
import itertools
import random
import re
import subprocess
from collections.abc import Iterator
from typing import Any

from cnsmo.services.loadbalancer.desired import (
    Algorithm,
    Headers,
    LoadBalancerDesired,
    Persistence,
    Timeouts,
)
from tests.eventually import eventually
from tests.functional.loadbalancer.hap_scene import Scene, desired

Counts = list[Any]
EVERYBODY = (1, 2, 3, 4)
STRUCTURES: tuple[dict[str, object], ...] = (
    {"algorithm": Algorithm.LEASTCONN},
    {"headers": Headers(request=(("X-One", "1"),))},
    {"persistence": Persistence.SOURCE},
    {"timeouts": Timeouts(client=30)},
    {},
)


def change_everything(scene: Scene, load: contextlib.AbstractContextManager[Counts]) -> Counts:
    """50 changes of membership, 20 of weights, 10 of the structure, 5 new agent processes, under
    a load; what the load came to."""
    scene.serve(*EVERYBODY)
    chance = random.Random(7)
    changes = ["member"] * 50 + ["weight"] * 20 + ["structure"] * 10 + ["agent"] * 5
    chance.shuffle(changes)
    structures = itertools.cycle(STRUCTURES)
    members, weights, structure = {1, 2, 3}, dict.fromkeys(EVERYBODY, 1), {}

    def wanted() -> LoadBalancerDesired:
        servers = (scene.server(it, weight=weights[it]) for it in sorted(members))
        return desired(*servers, drain=2.0, **structure)

    scene.settle(wanted())
    with load as counted:
        for change in changes:
            if change == "member":
                leaver = chance.choice(sorted(members))
                members ^= {leaver} if len(members) > 2 else set()
                members |= {chance.choice(EVERYBODY)} if len(members) < 4 else set()
            elif change == "weight":
                weights[chance.choice(EVERYBODY)] = chance.randint(1, 256)
            elif change == "structure":
                structure = next(structures)
            else:
                scene.fresh()
            scene.apply(wanted())
            assert scene.driver.observe(wanted()).drift == ()
        scene.follow(wanted())
    print("COUNTED", counted)
    return counted


def test_no_request_is_lost_while_everything_changes(scene: Scene) -> None:
    (found,) = change_everything(scene, scene.load(kept=3, fresh=3, posts=True))
    assert found.lost == {}
    assert found.sent > 1000
    assert set(found.by) == {f"web{it}" for it in EVERYBODY}


def test_a_pool_that_is_replaced_as_a_whole_loses_nothing(scene: Scene) -> None:
    """Who leaves serves until the first of the others has passed a check."""
    scene.serve(*EVERYBODY)
    scene.settle(desired(*scene.servers(1, 2), drain=20.0))
    others = desired(*scene.servers(3, 4), drain=20.0)
    reloaded = dataclasses.replace(others, timeouts=Timeouts(client=30))
    for late in (3, 4):
        scene.sicken(late)
    with scene.load() as counted:
        for wanted in (others, reloaded):
            scene.apply(wanted)
            assert scene.observe(wanted).drift == ()
            assert set(scene.who()) == {"web1", "web2"}
        scene.sicken(3, sick=False)
        eventually(lambda: scene.state(reloaded, "web3") == "up", what="a first server")
        assert scene.apply(reloaded) == []
        assert scene.who() == {"web3": 20}
        scene.sicken(4, sick=False)
        scene.follow(reloaded)
        assert set(scene.who()) == {"web3", "web4"}
    (found,) = counted
    assert found.lost == {}


def test_who_leaves_does_not_serve_longer_than_it_has_time(scene: Scene) -> None:
    scene.serve(1, 2)
    scene.sicken(2)
    scene.settle(desired(*scene.servers(1)))
    other = desired(*scene.servers(2), drain=1.0)
    scene.apply(other)
    assert scene.who() == {"web1": 20}
    eventually(lambda: scene.apply(other) == [] and scene.who() == {"nobody": 20}, what="the end")


@contextlib.contextmanager
def tool(scene: Scene, *args: str) -> Iterator[list[str]]:
    """A tool that asks until it is interrupted; the list then has what it says."""
    url = f"http://{scene.address}/"
    process = subprocess.Popen(
        [*scene.client.system.enter, *args, url], stdout=subprocess.PIPE, text=True
    )
    said: list[str] = []
    try:
        eventually(lambda: sum(it["total"] for it in fronts(scene)) > 100, what="a load")
        yield said
    finally:
        scene.client.system.run("pkill", "-INT", "-x", args[0])
        said.append(process.communicate(timeout=30)[0])


def fronts(scene: Scene) -> list[dict[str, int]]:
    """Figures of the places where it listens."""
    wanted = desired(*scene.servers(1))
    return list(scene.observe(wanted).detail["frontends"].values())


def test_wrk_loses_nothing_on_connections_that_stay_open(scene: Scene) -> None:
    (said,) = change_everything(scene, tool(scene, "wrk", "-t", "1", "-c", "4", "-d", "10m"))
    found = re.search(r"(\d+) requests in", said)
    assert found, said
    assert int(found[1]) > 1000
    assert "Socket errors" not in said
    assert "Non-2xx" not in said


def test_hey_loses_nothing_on_new_connections(scene: Scene) -> None:
    hey = ("hey", "-z", "10m", "-c", "4", "-q", "100", "-disable-keepalive")
    (said,) = change_everything(scene, tool(scene, *hey))
    statuses = dict(re.findall(r"\[(\d+)\]\s+(\d+) responses", said))
    assert set(statuses) == {"200"}, said
    assert int(statuses["200"]) > 1000
    assert "Error distribution" not in said


def test_a_reload_loses_nothing_under_full_load(scene: Scene) -> None:
    """As fast as it can, on connections that stay open and on new ones."""
    scene.serve(*EVERYBODY)
    first = desired(*scene.servers(*EVERYBODY))
    other = dataclasses.replace(first, timeouts=Timeouts(client=30))
    scene.settle(first)
    with scene.load(pause=0, posts=True) as counted:
        for wanted in (other, first) * 3:
            before = scene.workers
            assert scene.apply(wanted)
            assert scene.workers != before
    (found,) = counted
    print("COUNTED", found)
    assert found.lost == {}
