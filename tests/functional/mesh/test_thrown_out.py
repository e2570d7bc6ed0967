# SPDX-License-Identifier: Apache-2.0
"""A stolen VM that is thrown out, or shut in: what it still can do with what it has. Nothing."""

import pytest

from cnsmo.model.messages import HostStatus
from tests.eventually import eventually
from tests.functional.mesh.shop import CLIENT, EDGE, EXAMPLE, WEB1, WEB2, ask, public, serve
from tests.functional.mesh.world import DEPLOYMENT, World, wireguard_interfaces


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


def peers(world: World, name: str) -> str:
    """The public keys that a host shakes hands with."""
    return world.run(name, "wg", "show", "all", "peers")


def knows(world: World, name: str, *words: str) -> bool:
    """Whether a host's firewall or balancer has one of these words."""
    rules = world.run(name, "nft", "list", "table", "inet", "cnsmo")
    return any(word in rules for word in words)


def shake_anew(world: World, name: str) -> None:
    """Forget all sessions, so that the next packet begins with a handshake of the host's key."""
    (interface,) = wireguard_interfaces(world.lab.vm(name))
    dump = world.run(name, "wg", "show", interface, "dump").splitlines()[1:]
    for line in dump:
        key, shared, endpoint, allowed, *_rest = line.split("\t")
        assert shared == "(none)"
        world.run(name, "wg", "set", interface, "peer", key, "remove")
        world.run(
            name, "wg", "set", interface, "peer", key, "endpoint", endpoint, "allowed-ips", allowed
        )


def shaken(world: World, name: str) -> list[str]:
    """Times of the latest handshakes with each peer; 0: never."""
    return [line.split()[-1] for line in
            world.run(name, "wg", "show", "all", "latest-handshakes").splitlines()]  # fmt: skip


def test_a_removed_hosts_key_opens_nothing(shop: World) -> None:
    """Its agent is stopped, as a thief would: all that it had is still in force there."""
    key = shop.client.member_list(DEPLOYMENT, "vpn", "backbone")["web1"].body["public_key"]
    given = shop.addresses()
    shake_anew(shop, "web1")
    assert shop.reaches("web1", given["web2"])
    assert set(shaken(shop, "web1")) != {"0"}
    shop.stop_agent("web1")
    shop.client.host_remove(DEPLOYMENT, "web1")
    (removed,) = eventually(
        lambda: [it for it in shop.client.host_removals(DEPLOYMENT) if it.confirmed_at], 30
    )
    assert (removed.host, removed.waiting) == ("web1", [])
    for name in ("edge1", "web2", "client"):
        assert key not in peers(shop, name)
        assert not knows(shop, name, given["web1"], public(shop, "web1"))
    shake_anew(shop, "web1")
    assert not shop.reaches("web1", given["web2"], seconds=3)
    assert not shop.reaches("web1", given["edge1"], seconds=3)
    assert set(shaken(shop, "web1")) == {"0"}
    eventually(lambda: ask(shop, public(shop, "edge1")) == {"web2"}, 15)


def test_a_host_in_quarantine_is_nowhere_and_comes_back(shop: World) -> None:
    given, sees_ssh = shop.addresses(), lambda: open_port(shop, "client", public(shop, "web1"), 22)
    key = shop.client.member_list(DEPLOYMENT, "vpn", "backbone")["web1"].body["public_key"]
    listen(shop, "web1", 22)
    eventually(sees_ssh, 15)
    revision = shop.client.host_quarantine(DEPLOYMENT, "web1")
    shop.settle(revision)
    for name in ("edge1", "web2", "client"):
        assert key not in peers(shop, name)
        assert not knows(shop, name, given["web1"], public(shop, "web1"))
    assert wireguard_interfaces(shop.lab.vm("web1")) == []
    assert not shop.reaches("web1", public(shop, "web2"), seconds=3)
    assert not shop.reaches("web2", given["web1"], seconds=3)
    eventually(lambda: ask(shop, public(shop, "edge1")) == {"web2"}, 15)
    assert sees_ssh()
    assert status(shop, "web1").quarantined
    revision = shop.client.host_quarantine(DEPLOYMENT, "web1", release=True)
    shop.settle(revision)
    assert shop.addresses() == given
    assert shop.unreached() == []
    eventually(lambda: ask(shop, public(shop, "edge1")) == {"web1", "web2"}, 30)


def status(world: World, name: str) -> HostStatus:
    (found,) = [host for host in world.client.host_list(DEPLOYMENT) if host.name == name]
    return found


def listen(world: World, name: str, port: int) -> None:
    """Let somebody take TCP connections in a VM."""
    vm = world.lab.vm(name)
    program = f"import socket,time\ns=socket.create_server(('0.0.0.0',{port}))\n"
    program += "while True: s.accept()[0].close()"
    vm.system().start("python3", "-c", program, log=vm.disk / f"listen-{port}.log")


def open_port(world: World, name: str, address: str, port: int) -> bool:
    """Whether a host can connect there."""
    program = f"import socket; socket.create_connection(('{address}',{port}), 2)"
    system = world.lab.vm(name).system()
    return system.run("python3", "-c", program, ok=(0, 1)).code == 0
