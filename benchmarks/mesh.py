# SPDX-License-Identifier: Apache-2.0
"""From ``apply`` until a whole mesh answers.

20 hosts have joined, nothing is declared. The clock starts with the operator's call that declares a
VPN, and stops when every VM has had answers to its pings from the VPN addresses of all 20: 380
pairs, and its own. Then the VPN is removed, and the next round begins with new keys.
The agents share one process here, and all VMs two processors: in the field each has its own.
"""

from __future__ import annotations

import time

from benchmarks.figures import Figure, Target, median_of
from benchmarks.pings import Pings
from benchmarks.run import Run
from benchmarks.stage import SECONDS, Stage
from cnsmo.lab.topology import mesh

VPN = "backbone: {cidr: 10.66.0.0/16, quarantine: 0}"
PERIOD = 0.05


def measure(run: Run) -> list[Figure]:
    """See above."""
    hosts, rounds = run.scale.mesh_hosts, run.scale.mesh_rounds
    answered = []
    run.expect(rounds)
    with Stage(run, mesh(hosts)) as stage:
        run.tell(f"{hosts} hosts join")
        names = [vm.name for vm in stage.lab.vms()]
        stage.join(names)
        addresses = [f"10.66.0.{number}" for number in range(1, hosts + 1)]
        with Pings(stage.lab.vms(), stage.directory / "pings.log") as pings:
            for number in range(rounds):
                run.tell(f"round {number + 1} of {rounds}")
                pings.begin(dict.fromkeys(names, addresses), PERIOD)
                begun = time.monotonic()
                stage.apply(VPN)
                answered.append(pings.wait(SECONDS) - begun)
                stage.settle()
                assert sorted(stage.addresses("backbone").values()) == sorted(addresses)
                run.step("removing the VPN")
                stage.apply()
                stage.settle()
    pairs = hosts * (hosts - 1)
    return [median_of(f"apply until all {pairs} pairs answer", "s", answered, Target(5.0))]
