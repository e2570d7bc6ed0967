# SPDX-License-Identifier: Apache-2.0
"""Throughput of CNSMO's mesh beside other VPNs, made by hand as their manuals say.

One TCP stream (iperf3) between two VMs at two sites. OpenVPN's goes through a hub, a third VM, as
VPNs of clients and a server do; so does that of CNSMO's own driver for it. Round after round, each
VPN once; ratios within a round. "no VPN" is the bare underlay: what two processors can move at all.
"""

from __future__ import annotations

from benchmarks.arena import MESH, STAR, arena
from benchmarks.figures import Figure, median_of, ratio_of
from benchmarks.overlays.nebula import Nebula
from benchmarks.overlays.openvpn import Openvpn
from benchmarks.overlays.tinc import Tinc
from benchmarks.run import Run

OURS = "CNSMO's WireGuard"
OUR_STAR = "CNSMO's OpenVPN, via hub"


def measure(run: Run) -> list[Figure]:
    """See above."""
    rounds = run.scale.peer_rounds
    with arena(run, f"{MESH}, {STAR}") as scene:
        scene.add(OURS, "mesh")
        scene.add(OUR_STAR, "star")
        for make in (Openvpn, Nebula, Tinc):
            scene.launch(make(run.directory(), scene.nodes()))
        scene.warm_up()
        found: dict[str, list[float]] = {name: [] for name in scene.targets}
        run.expect(rounds * len(found))
        for number in range(rounds):
            for name, samples in found.items():
                run.step(f"round {number + 1} of {rounds}: {name}")
                samples.append(scene.measure(name))
    ratios = [
        ratio_of(f"{OURS} / {name}", found[OURS], samples)
        for name, samples in found.items()
        if name != OURS
    ]
    hub = ratio_of(f"{OUR_STAR} / {Openvpn.name}", found[OUR_STAR], found[Openvpn.name])
    return [
        *ratios,
        hub,
        *(median_of(name, "Mbit/s", samples) for name, samples in found.items()),
    ]
