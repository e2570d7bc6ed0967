# SPDX-License-Identifier: Apache-2.0
"""How soon one more server of a pool of 1,000 is in a carrier's haproxy, without a reload.

In a VM the agent's worker keeps a balancer of 1,000 servers, all of which are checked every two
seconds, and are up: another VM has all their addresses. The worker syncs, and the core (here a
script) answers with the row of one more host. The clock starts when the answer is there.

* until haproxy has it: its runtime API has answered the last order about the server; before, the
  replica was written to the disk, the service compiled, and the driver looked at what runs;
* until the worker is through: haproxy itself has judged the file, which is written, and the agent
  has looked whether all is as declared;
* until it serves: its first check was good.

Looked at afterwards: the processes of haproxy are the same as before.
"""

from __future__ import annotations

import contextlib
from typing import Any

from benchmarks import rows, web
from benchmarks.figures import Figure, Target, median_of, p95_of
from benchmarks.place import Place
from benchmarks.run import Run
from cnsmo.lab.topology import mesh

SOON = Target(100.0)
MILLI = 1e3


def measure(run: Run) -> list[Figure]:
    """See above."""
    count, rounds, warm_ups = run.scale.pool_servers, run.scale.pool_rounds, run.scale.warm_ups
    found: list[dict[str, Any]] = []
    with Place(run, mesh(2, sites=1)) as place, contextlib.ExitStack() as stack:
        carrier, servers = place.lab.vms()
        stack.enter_context(web.server(servers, place.directory))
        network, address = str(rows.NETWORK), str(servers.seat.address.ip)
        servers.system().run("ip", "route", "add", "local", network, "dev", "lo")
        carrier.system().run("ip", "route", "add", network, "via", address)
        child = stack.enter_context(place.child("balancer_process", carrier))
        run.tell(f"{count} servers come in force")
        addresses = [rows.address(number) for number in range(count + 1)]
        child.ask(declare={"www": _spec()}, addresses=addresses)
        stack.callback(child.ask, remove=True)
        run.expect(rounds)
        for number in range(warm_ups + rounds):
            run.step(f"server {number + 1} of {warm_ups + rounds}")
            found.append(child.ask(join=count + 1 + number))
    return _figures(count, found[warm_ups:])


def _spec() -> dict[str, Any]:
    """A balancer of everybody else."""
    return {"on": rows.CARRIERS, "listen": 80, "pool": {"group": rows.GROUP, "port": web.PORT}}


def _figures(count: int, found: list[dict[str, Any]]) -> list[Figure]:
    reloads = [float(before != after) for before, after in (each["workers"] for each in found)]
    name = f"one more of {count}: from receipt"
    told, done, checked = (
        [each[key] * MILLI for each in found] for key in ("told", "done", "checked")
    )
    return [
        p95_of(f"{name} until haproxy has it", "ms", told, SOON),
        median_of(f"{name} until haproxy has it", "ms", told),
        median_of(f"{name} until the worker is through", "ms", done),
        median_of(f"{name} until it serves", "ms", checked),
        Figure(
            name=f"one more of {count}: reloads", unit="", value=sum(reloads), statistic="sum",
            low=0.0, high=0.0, samples=tuple(reloads), target=Target(0.0),
        ),
    ]  # fmt: skip
