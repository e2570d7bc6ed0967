# SPDX-License-Identifier: Apache-2.0
"""Nothing is lost, whatever changes."""

import dataclasses
import itertools
import random

from cnsmo.services.loadbalancer.desired import (
    Algorithm,
    Headers,
    LoadBalancerDesired,
    Persistence,
    Timeouts,
)
from tests.functional.loadbalancer.hap_scene import Scene, desired

EVERYBODY = (1, 2, 3, 4)
STRUCTURES: tuple[dict[str, object], ...] = (
    {"algorithm": Algorithm.LEASTCONN},
    {"headers": Headers(request=(("X-One", "1"),))},
    {"persistence": Persistence.SOURCE},
    {"timeouts": Timeouts(client=30)},
    {},
)


def test_no_request_is_lost_while_everything_changes(scene: Scene) -> None:
    """50 changes of membership, 20 of weights, 10 of the structure, 5 new agent processes."""
    scene.serve(*EVERYBODY)
    chance = random.Random(7)
    changes = ["member"] * 50 + ["weight"] * 20 + ["structure"] * 10 + ["agent"] * 5
    chance.shuffle(changes)
    structures = itertools.cycle(STRUCTURES)
    members, weights, structure = {1, 2, 3}, dict.fromkeys(EVERYBODY, 1), {}
    kinds = {"kept": 3, "fresh": 3, "posts": True}

    def wanted() -> LoadBalancerDesired:
        servers = (scene.server(it, weight=weights[it]) for it in sorted(members))
        return desired(*servers, drain=2.0, **structure)

    scene.settle(wanted())
    with scene.load(**kinds) as counted:
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
    (found,) = counted
    print("COUNTED", found)
    assert found.lost == {}
    assert found.sent > 1000
    assert set(found.by) == {f"web{it}" for it in EVERYBODY}


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
