# SPDX-License-Identifier: Apache-2.0
"""Prometheus' figures of a real haproxy are what was really sent."""

from cnsmo.services.loadbalancer.desired import LoadBalancerDesired
from cnsmo.services.loadbalancer.figures import figures
from tests.eventually import eventually
from tests.functional.loadbalancer.hap_scene import Scene, desired


def told(scene: Scene, wanted: LoadBalancerDesired) -> dict[tuple[str, ...], float]:
    detail = scene.observe(wanted).detail
    return {(it.name, *it.labels.values()): it.value for it in figures(detail)}


def test_requests_and_states_are_counted(scene: Scene) -> None:
    scene.serve(1, 2)
    wanted = desired(*scene.servers(1, 2, 3))
    scene.settle(wanted)
    down = "server_state", "www", "web3", "down"
    eventually(lambda: told(scene, wanted)[down], what="nobody answers for web3")
    sent = scene.who(20)
    found = told(scene, wanted)
    assert found["frontend_requests", "*:80"] == 20
    for name in ("web1", "web2"):
        assert found["server_requests", "www", name] == sent[name]
        assert found["server_state", "www", name, "up"] == 1
    assert found["server_requests", "www", "web3"] == 0
    assert found["frontend_errors", "*:80"] == found["frontend_full", "*:80"] == 0
    assert found[("vip_held",)] == 0
