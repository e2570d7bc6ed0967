# SPDX-License-Identifier: Apache-2.0
"""Three VMs for measuring throughput: a sender, a receiver at another site, and a hub.

CNSMO has made a WireGuard mesh and an OpenVPN star between them; what else is made by hand comes
beside, on interfaces of its own. Everything is up all the time, one at a time carries traffic.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from benchmarks import iperf
from benchmarks.overlays.overlay import Node, Overlay
from benchmarks.run import Run
from benchmarks.stage import Stage
from cnsmo.lab.topology import Topology, VmSpec

MESH = "mesh: {cidr: 10.66.0.0/16}"
STAR = "star: {cidr: 10.71.0.0/16, topology: hub, hub: hubs, driver: openvpn, listen_port: 51821}"
SENDER, RECEIVER, HUB = "sender", "receiver", "hub"
PLAN = Topology(
    (
        VmSpec(SENDER, "east", ("end",)),
        VmSpec(RECEIVER, "west", ("end",)),
        VmSpec(HUB, "east", ("hubs",)),
    ),
    ("east", "west"),
)


class Arena:
    """Who sends, and to which address for which VPN."""

    def __init__(self, run: Run, stage: Stage, stack: contextlib.ExitStack) -> None:
        self._run = run
        self._stage = stage
        self._stack = stack
        self.sender = stage.lab.vm(SENDER)
        self.targets = {"no VPN": str(stage.lab.vm(RECEIVER).seat.address.ip)}

    def add(self, name: str, instance: str) -> None:
        """What CNSMO made."""
        self.targets[name] = self._stage.addresses(instance)[RECEIVER]

    def nodes(self) -> list[Node]:
        """The hub first."""
        names = (HUB, SENDER, RECEIVER)
        return [Node(name, n + 1, self._stage.lab.vm(name)) for n, name in enumerate(names)]

    def launch(self, overlay: Overlay) -> None:
        """Make one by hand."""
        self._run.tell(f"making {overlay.name}")
        overlay.prepare()
        for node in overlay.nodes:
            self._stack.enter_context(overlay.launch(node))
        self.targets[overlay.name] = overlay.address(overlay.nodes[2])

    def measure(self, name: str) -> float:
        """Mbit/s."""
        return iperf.throughput(self.sender, self.targets[name], self._run.scale.iperf_seconds)

    def warm_up(self) -> None:
        """Wait until every way is open."""
        for address in self.targets.values():
            iperf.await_server(self.sender, address)

    def mtu(self, device: str) -> int:
        """Bytes, of an interface of the sender."""
        shown = self.sender.system().run("cat", f"/sys/class/net/{device}/mtu").stdout
        return int(shown)


@contextlib.contextmanager
def arena(run: Run, vpns: str) -> Iterator[Arena]:
    """An arena with VPNs by CNSMO, as `Stage.apply` takes them."""
    with Stage(run, PLAN) as stage, contextlib.ExitStack() as stack:
        run.tell("CNSMO makes its VPNs")
        for vm in stage.lab.vms():
            stage.join([vm.name], vm.seat.spec.groups)
        stage.apply(vpns)
        stage.settle()
        stack.enter_context(iperf.server(stage.lab.vm(RECEIVER), stage.directory / "iperf.log"))
        yield Arena(run, stage, stack)
