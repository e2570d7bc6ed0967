# SPDX-License-Identifier: Apache-2.0
"""The demo that CNSMO began with: two web servers, a load balancer, a client, in two clouds."""

from cnsmo.lab import reach
from cnsmo.lab.topology import VmSpec
from tests.functional.mesh.world import World

VMS = (
    VmSpec("web1", "east", ("web",)),
    VmSpec("web2", "west", ("web",)),
    VmSpec("lb1", "east", ("lb",)),
    VmSpec("client1", "west", ("client",)),
)
EVERY_PAIR = sorted(f"{one.name} -> {two.name}" for one in VMS for two in VMS if one != two)
MESH = "vpn:\n  backbone: {cidr: 10.66.0.0/24}\n"
POLICY = """\
firewall:
  perimeter:
    inbound:
      - {name: ping, protocol: icmp, icmp: echo-request, via: backbone}
      - {name: www, from: client, to: lb, protocol: tcp, ports: http}
      - {name: app, from: lb, to: web, protocol: tcp, ports: 8080, via: backbone}
"""


def unreached_in_public(world: World) -> list[str]:
    """Pairs of VMs of which the first pings the second's public address in vain."""
    vms = world.lab.vms()
    public = {vm.name: vm.seat.facts().public[0] for vm in vms}
    return reach.silent(reach.matrix(vms, public, seconds=2))


def test_pinging_the_public_address_fails_and_over_the_vpn_it_works(world: World) -> None:
    world.up(*VMS)
    world.settle(world.apply(MESH))
    assert unreached_in_public(world) == []
    assert world.unreached() == []
    world.settle(world.apply(MESH + POLICY))
    assert unreached_in_public(world) == EVERY_PAIR
    assert world.unreached() == []
    world.settle(world.apply(MESH))
    assert unreached_in_public(world) == []
    assert world.unreached() == []
