# SPDX-License-Identifier: Apache-2.0
"""What CNSMO's mesh costs in throughput: the same mesh made by hand is its measure.

One TCP stream (iperf3) between two VMs at two sites, through CNSMO's WireGuard interface and
through one set up with wg(8) and ip(8): same VMs, same wireguard-go, same MTU. Many short runs, in
turns, the first of each pair in turns too; the ratio is that of each pair, so that what else the
machine does drops out. Agents and core run all the while, with the field's periods.
"""

from __future__ import annotations

from benchmarks.arena import MESH, arena
from benchmarks.figures import Figure, Target, median_of, ratio_of
from benchmarks.overlays.wireguard import Wireguard
from benchmarks.run import Run
from cnsmo.services.kit.link import interface_name

OURS = "CNSMO's WireGuard"
THEIRS = Wireguard.name


def measure(run: Run) -> list[Figure]:
    """See above."""
    found: dict[str, list[float]] = {OURS: [], THEIRS: []}
    pairs = run.scale.wireguard_pairs
    with arena(run, MESH) as scene:
        scene.add(OURS, "mesh")
        mtu = scene.mtu(interface_name("vpn", "mesh"))
        scene.launch(Wireguard(run.directory(), scene.nodes(), mtu))
        scene.warm_up()
        run.expect(pairs)
        for number in range(pairs):
            order = [OURS, THEIRS] if number % 2 else [THEIRS, OURS]
            run.step(f"pair {number + 1} of {pairs}")
            for name in order:
                found[name].append(scene.measure(name))
    return [
        ratio_of("CNSMO / by hand", found[OURS], found[THEIRS], Target(0.97, at_least=True)),
        median_of(OURS, "Mbit/s", found[OURS], note=f"MTU {mtu}"),
        median_of(THEIRS, "Mbit/s", found[THEIRS], note=f"MTU {mtu}"),
    ]
