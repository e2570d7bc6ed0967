# SPDX-License-Identifier: Apache-2.0
"""Requests per second through CNSMO's load balancers, beside the same HAProxy made by hand.

A client (wrk, 32 connections) asks a carrier, which balances among four web servers; each is a VM
of its own. On the carrier there are at once, all with the same four: a balancer by the driver
haproxy; one made by hand, as fast as we could make it, which does the same and loses no request
either; one made by hand that is faster for not caring about that (all in web.py); one by the driver
haproxy in mode tcp; one by the driver nftables. Short runs, in turns, the first of each
pair in turns too; the ratio is that of each pair, so that what else the machine does drops out.

* kept: requests on connections that stay open; what counts for the targets;
* fresh: each request on a connection of its own.

All of it shares this machine's processors, client and servers too: a faster balancer leaves them
more time, a slower one less, so that ratios are smaller in the field than they are here.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

from benchmarks import rows, web, wrk
from benchmarks.figures import Figure, Target, median_of, ratio_of
from benchmarks.place import Place
from benchmarks.run import Run
from cnsmo.lab.topology import mesh
from cnsmo.lab.vm import Vm

SERVERS = 4
HTTP, BY_HAND, CARELESS = "driver haproxy", "by hand, tuned", "by hand, may lose requests"
TCP, KERNEL = "haproxy, mode tcp", "nftables"
PORTS = {HTTP: 80, BY_HAND: 81, CARELESS: 82, TCP: 83, KERNEL: 84}
PAIRS = ((HTTP, BY_HAND, Target(0.98, True)), (KERNEL, TCP, Target(1.2, True)))
KINDS = ("kept", "fresh")


@dataclasses.dataclass(frozen=True)
class Scene:
    """Who asks, and whom."""

    client: Vm
    carrier: str
    seconds: int

    def rate(self, name: str, kind: str) -> float:
        """Requests per second."""
        url = f"http://{self.carrier}:{PORTS[name]}/"
        return wrk.rate(self.client, url, self.seconds, fresh=kind == "fresh")


def measure(run: Run) -> list[Figure]:
    """See above."""
    pairs = run.scale.balancer_pairs
    found: dict[tuple[str, str], list[float]] = {
        (name, kind): [] for name in PORTS for kind in KINDS
    }
    with _scene(run) as scene:
        for name, kind in found:
            scene.rate(name, kind)  # the first is not counted
        run.expect(pairs)
        for number in range(pairs):
            run.step(f"pair {number + 1} of {pairs}")
            for ours, theirs, _target in PAIRS:
                for kind in KINDS:
                    for name in (ours, theirs) if number % 2 else (theirs, ours):
                        found[name, kind].append(scene.rate(name, kind))
            for kind in KINDS:
                found[CARELESS, kind].append(scene.rate(CARELESS, kind))
    ratios = [
        ratio_of(
            f"{ours} / {theirs}, {kind}", found[ours, kind], found[theirs, kind],
            target if kind == "kept" else None,
        )
        for ours, theirs, target in PAIRS
        for kind in KINDS
    ]  # fmt: skip
    return ratios + [
        median_of(f"{name}, {kind}", "requests/s", found[name, kind])
        for name in PORTS
        for kind in KINDS
    ]


@contextlib.contextmanager
def _scene(run: Run) -> Iterator[Scene]:
    with Place(run, mesh(2 + SERVERS, sites=1)) as place, contextlib.ExitStack() as stack:
        client, carrier, *servers = place.lab.vms()
        for vm in servers:
            stack.enter_context(web.server(vm, place.directory))
        own, *theirs = addresses = [str(vm.seat.address.ip) for vm in (carrier, *servers)]
        for name, manner in ((BY_HAND, web.CAREFUL), (CARELESS, web.CARELESS)):
            stack.enter_context(web.balancer(carrier, PORTS[name], theirs, manner, place.directory))
        run.tell("balancers come in force")
        child = stack.enter_context(place.child("balancer_process", carrier))
        child.ask(declare=_specs(), addresses=addresses)
        stack.callback(child.ask, remove=True)
        yield Scene(client, own, run.scale.wrk_seconds)


def _specs() -> dict[str, dict[str, object]]:
    known = {"on": rows.CARRIERS, "pool": {"group": rows.GROUP, "port": web.PORT}}
    return {
        "www": {**known, "listen": PORTS[HTTP]},
        "tcp": {**known, "listen": PORTS[TCP], "mode": "tcp"},
        "kernel": {**known, "listen": PORTS[KERNEL], "mode": "tcp", "driver": "nftables"},
    }
