# SPDX-License-Identifier: Apache-2.0
"""What a firewall with a group of 10,000 costs in throughput: no firewall is its measure.

One TCP stream (iperf3) between two VMs on one bridge, over the bare underlay: with a VPN in
between, what a firewall costs would hardly be seen. Two VMs have a firewall each, which drops what
does not come from a group of 10,000 in which both are; two others have none, nor connection
tracking. Many short runs, in turns, the first of each pair in turns too; the ratio is that of each
pair, so that what else the machine does drops out.
"""

from __future__ import annotations

import contextlib

from benchmarks import iperf
from benchmarks.figures import Figure, Target, median_of, ratio_of
from benchmarks.place import Place
from benchmarks.run import Run
from cnsmo.lab.topology import mesh

WALLED, OPEN = "CNSMO's firewall", "no firewall"


def measure(run: Run) -> list[Figure]:
    """See above."""
    count, pairs = run.scale.members, run.scale.firewall_pairs
    found: dict[str, list[float]] = {WALLED: [], OPEN: []}
    with Place(run, mesh(4, sites=1)) as place, contextlib.ExitStack() as stack:
        vms = place.lab.vms()
        ends = {WALLED: vms[:2], OPEN: vms[2:]}
        addresses = [str(vm.seat.address.ip) for vm in ends[WALLED]]
        for vm in ends[WALLED]:
            run.tell(f"{count} members come in force on {vm.name}")
            child = stack.enter_context(place.child("member_process", vm))
            child.ask(members=count, port=iperf.PORT, also=addresses)
        for sender, receiver in ends.values():
            log = place.directory / f"{receiver.name}.log"
            stack.enter_context(iperf.server(receiver, log))
            iperf.throughput(sender, str(receiver.seat.address.ip), 1)  # the first is not counted
        run.expect(pairs)
        for number in range(pairs):
            run.step(f"pair {number + 1} of {pairs}")
            for name in (WALLED, OPEN) if number % 2 else (OPEN, WALLED):
                sender, receiver = ends[name]
                target = str(receiver.seat.address.ip)
                found[name].append(iperf.throughput(sender, target, run.scale.iperf_seconds))
    return [
        ratio_of(f"{count} members / no firewall", found[WALLED], found[OPEN], Target(0.9, True)),
        median_of(WALLED, "Mbit/s", found[WALLED]),
        median_of(OPEN, "Mbit/s", found[OPEN]),
    ]
