# SPDX-License-Identifier: Apache-2.0
"""A server whose host is not trusted any more gets nothing more, and keeps nothing."""

import dataclasses
import json
import time

import pytest

from cnsmo.services.loadbalancer.desired import LoadBalancerDesired, Timeouts
from tests.eventually import eventually
from tests.functional.loadbalancer.hap_scene import Scene, desired

SOON = 5.0
"""Seconds; far below the drain."""


@pytest.fixture
def wanted(scene: Scene) -> LoadBalancerDesired:
    """The second of two is left, after the first was thrown out; drains would be long."""
    scene.serve(1, 2)
    scene.settle(desired(*scene.servers(1), drain=600))
    return desired(*scene.servers(2), drain=600, distrusted=("web1",))


@pytest.mark.parametrize("reload", [False, True], ids=["same worker", "earlier worker"])
def test_what_it_has_is_ended_at_once(
    scene: Scene, wanted: LoadBalancerDesired, reload: bool
) -> None:
    if reload:
        wanted = dataclasses.replace(wanted, timeouts=Timeouts(client=wanted.timeouts.client + 1))
    process = scene.begin("ask", path="/slow/60", timeout=70)
    eventually(lambda: busy(scene) == 1, what="a download")
    begun = time.monotonic()
    scene.apply(wanted)
    scene.follow(wanted)
    (answer,) = json.loads(process.communicate(timeout=30)[0])
    assert time.monotonic() - begun < SOON
    assert answer["status"] == 0
    assert scene.state(wanted, "web1") == "gone"
    assert scene.who() == {"web2": 20}


def test_it_serves_nobody_though_nobody_else_is_well(
    scene: Scene, wanted: LoadBalancerDesired
) -> None:
    """Another who leaves would be held, and serve on."""
    nobody = scene.servers(3)
    scene.apply(dataclasses.replace(wanted, pools=desired(*nobody).pools))
    assert "web1" not in scene.who(5)


def busy(scene: Scene) -> int:
    shown = scene.admin("show stat").splitlines()
    return sum(int(line.split(",")[4]) for line in shown if line.startswith("www,web1"))
