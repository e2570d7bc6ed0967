# SPDX-License-Identifier: Apache-2.0
"""How soon a new member of a group of 10,000 is in the kernel of a host.

In a VM the agent's worker keeps a firewall that lets the group use a port; its 10,000 members are
in the kernel. The worker syncs, and the core (here a script) answers with the row of one more host.
The clock stops when ``nft -f`` with the new element has ended; that the element is there is looked
up afterwards.

* from compile: the clock starts when the services are handed the rows;
* from receipt: it starts when the answer is there; before anything is compiled, the worker has put
  the row into its replica, and the replica on the disk.
"""

from __future__ import annotations

from benchmarks.figures import Figure, Target, median_of, p95_of
from benchmarks.place import Place
from benchmarks.run import Run
from cnsmo.lab.topology import mesh

PORT = 8080
SOON = Target(20.0)
MILLI = 1e3


def measure(run: Run) -> list[Figure]:
    """See above."""
    count, rounds = run.scale.members, run.scale.member_rounds
    found: dict[str, list[float]] = {"compile": [], "receipt": []}
    with Place(run, mesh(1)) as place:
        (vm,) = place.lab.vms()
        with place.child("member_process", vm) as host:
            run.tell(f"{count} members come in force")
            host.ask(members=count, port=PORT, also=[])
            for number in range(run.scale.warm_ups):
                host.ask(join=count + number)
            run.expect(rounds)
            for number in range(rounds):
                run.step(f"member {number + 1} of {rounds}")
                took = host.ask(join=count + run.scale.warm_ups + number)
                for key, samples in found.items():
                    samples.append(took[key] * MILLI)
    name = f"one more of {count}: from receipt, replica on disk first"
    return [
        median_of(name, "ms", found["receipt"], SOON),
        p95_of(name, "ms", found["receipt"]),
        median_of(f"one more of {count}: from compile until in the kernel", "ms", found["compile"]),
    ]
