# SPDX-License-Identifier: Apache-2.0
"""A balancer under core and agents: who dies, who holds the VIP, which certificate ends."""

from pathlib import Path

import pytest
from oslo_config import cfg

from cnsmo.lab.topology import VmSpec
from cnsmo.manage import fresh
from cnsmo.model.lifecycle import State
from tests.eventually import eventually
from tests.functional.loadbalancer.pem import Authority
from tests.functional.mesh.shop import CLIENT, EDGE, EXAMPLE, WEB1, WEB2, ask, load, public, serve
from tests.functional.mesh.world import DEPLOYMENT, World

EDGE2 = VmSpec("edge2", "east", ("edge",))
LISTEN = "    listen: 80\n"
GAP_SECONDS = 2.0
SECURE = """\
deployment: shop
vpn:
  backbone: {{cidr: 10.66.0.0/16}}
loadbalancer:
  www:
    on: edge
    listen: 443
    tls: {{certificates: {path}}}
    pool: {{group: web, port: 8080}}
"""


@pytest.fixture
def mortal(world: World, conf: cfg.ConfigOpts) -> World:
    """A world whose core soon notices that an agent is silent."""
    conf.set_override("down_after", 2, "core")
    conf.set_override("health_interval", 0.2, "core")
    return world


def standing(world: World) -> tuple[str, str]:
    """The state of the carrier's agent, and why."""
    agent = world.agents("loadbalancer")["edge1"]
    return str(agent.state), agent.reason


def holders(world: World) -> set[str]:
    """Who says to hold the VIP."""
    return {
        host.name
        for host in fresh.observed(world.client, DEPLOYMENT, patience=1.0)
        for agent in host.agents
        if agent.service == "loadbalancer" and agent.observation.get("www", {}).get("vip")
    }


def test_who_has_no_agent_is_out_by_the_cores_word_and_comes_back(mortal: World) -> None:
    """Its web server goes on, and would pass its checks."""
    mortal.up(EDGE, WEB1, WEB2, CLIENT)
    for name in ("web1", "web2"):
        serve(mortal, name)
    mortal.settle(mortal.client.apply(EXAMPLE).revision or 0)
    edge = public(mortal, "edge1")
    eventually(lambda: ask(mortal, edge) == {"web1", "web2"}, 15)
    with load(mortal, edge) as counted:
        mortal.stop_agent("web1")
        eventually(lambda: mortal.agents("loadbalancer")["web1"].state == State.DOWN, 15)
        eventually(lambda: ask(mortal, edge) == {"web2"}, 15)
        mortal.start_agent("web1")
        eventually(lambda: ask(mortal, edge) == {"web1", "web2"}, 15)
    assert counted[0].lost == {}
    assert counted[0].sent > 100


def test_a_pair_holds_its_address_together_behind_the_firewall(mortal: World) -> None:
    mortal.up(EDGE, EDGE2, WEB1, WEB2, CLIENT)
    for name in ("web1", "web2"):
        serve(mortal, name)
    near = mortal.lab.vm("edge1").seat.address.network
    vip = str(near[100])
    document = EXAMPLE.replace(LISTEN, f"{LISTEN}    vip: {vip}/{near.prefixlen}\n")
    assert document != EXAMPLE
    mortal.settle(mortal.client.apply(document).revision or 0)
    eventually(lambda: len(holders(mortal)) == 1, 20)
    eventually(lambda: ask(mortal, vip) == {"web1", "web2"}, 15)
    (first,) = holders(mortal)  # each hears the other through the firewall
    (second,) = {"edge1", "edge2"} - {first}
    with load(mortal, vip) as counted:
        mortal.stop_agent(first)
        mortal.lab.vm(first).stop()
        eventually(lambda: second in holders(mortal), 15)
        eventually(lambda: ask(mortal, vip) == {"web1", "web2"}, 15)
    assert counted[0].gap <= GAP_SECONDS
    assert vip in mortal.run(second, "ip", "-4", "address", "show")


def test_a_certificate_that_ends_is_the_agents_reason_until_it_is_renewed(
    world: World, tmp_path: Path
) -> None:
    authority, path = Authority("Test"), tmp_path / "shop.pem"
    authority.issue(path, "shop.example", days=10.5)
    world.up(EDGE, WEB1)
    serve(world, "web1")
    plan = world.client.apply(SECURE.format(path=path))
    soon = f"www: certificate {path} expires in 10 days, on "
    eventually(lambda: standing(world)[1].startswith(soon), 30)
    assert standing(world)[0] == State.DEGRADED
    assert world.agents("loadbalancer")["edge1"].applied_revision >= (plan.revision or 0)
    authority.issue(path, "shop.example", days=-1)
    eventually(lambda: f"certificate {path} expired on " in standing(world)[1], 15)
    assert standing(world)[0] == State.DEGRADED
    authority.issue(path, "shop.example")
    eventually(lambda: standing(world) == (State.READY, ""), 15)
