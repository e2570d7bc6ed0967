# SPDX-License-Identifier: Apache-2.0
"""The published example, in one apply: VPN, firewall and load balancer, with real tools."""

import pytest

from cnsmo.lab.topology import VmSpec
from tests.eventually import eventually
from tests.functional.mesh.shop import CLIENT, EDGE, EXAMPLE, WEB1, WEB2, ask, public, serve
from tests.functional.mesh.world import DEPLOYMENT, World


@pytest.fixture
def shop(world: World) -> World:
    """Two web servers behind a balancer, and a client; the example is in force."""
    world.up(EDGE, WEB1, WEB2, CLIENT)
    for name in ("web1", "web2"):
        serve(world, name)
    plan = world.client.apply(EXAMPLE)
    world.settle(plan.revision or 0)
    eventually(lambda: ask(world, public(world, "edge1")) == {"web1", "web2"}, 15)
    return world


def test_the_world_reaches_the_balancer_and_nothing_else(shop: World) -> None:
    assert ask(shop, public(shop, "web1"), 8080, 1) == {"silence"}
    assert ask(shop, shop.addresses()["web1"], 8080, 1) == {"silence"}
    assert ask(shop, public(shop, "edge1"), 8080, 1) == {"silence"}


def test_the_pool_follows_its_group(shop: World) -> None:
    web3 = shop.lab.add(VmSpec("web3", "west", ("web",)))
    serve(shop, web3.name)
    shop.start_agent(web3.name)
    eventually(lambda: "web3" in ask(shop, public(shop, "edge1")), 30)
    shop.client.host_remove(DEPLOYMENT, "web1")
    shop.forget_agent("web1")
    eventually(lambda: ask(shop, public(shop, "edge1")) == {"web2", "web3"}, 15)


def test_an_operators_word_holds_over_an_apply(shop: World) -> None:
    shop.client.adjust(DEPLOYMENT, "loadbalancer", ["www"], "web1", {"drain": True})
    eventually(lambda: ask(shop, public(shop, "edge1")) == {"web2"}, 15)
    plan = shop.client.apply(EXAMPLE.replace("interval: 1s", "interval: 2s"))
    shop.settle(plan.revision or 0)
    assert ask(shop, public(shop, "edge1")) == {"web2"}
    shop.client.adjust(DEPLOYMENT, "loadbalancer", ["www"], "web1", {"drain": None})
    eventually(lambda: ask(shop, public(shop, "edge1")) == {"web1", "web2"}, 15)


def test_the_balancer_outlives_its_agent_and_an_empty_pool(shop: World) -> None:
    shop.stop_agent("edge1")
    assert ask(shop, public(shop, "edge1")) == {"web1", "web2"}
    shop.start_agent("edge1")
    shop.settle()
    for name in ("web1", "web2"):
        shop.client.adjust(DEPLOYMENT, "loadbalancer", ["www"], name, {"drain": True})
    eventually(lambda: ask(shop, public(shop, "edge1")) == {"503"}, 15)
    shop.client.adjust(DEPLOYMENT, "loadbalancer", ["www"], "web2", {"drain": None})
    eventually(lambda: ask(shop, public(shop, "edge1")) == {"web2"}, 15)
