# SPDX-License-Identifier: Apache-2.0
"""From a change of a pool's members, declared, until the carrier's haproxy goes by it.

20 VMs: a carrier, and 19 web servers, its pool. Core, broker, agents and haproxy are the real ones.
In each round one of the servers is drained and let serve again by an operator's call, is removed
from the deployment, and joins it anew. The clock starts with the call, or, where it joins, when the
core has taken it in; it stops when haproxy's runtime API says that the server gets nothing new, or
that it serves: a newcomer has passed a check by then, of which there is one each 200 ms. (A join's
own time is `newcomer`'s business.)
All kinds of changes count alike. For a join there is told, too, when haproxy had the server and
began to check it.

Beside it the same from the command ``cnsmo-manage loadbalancer drain`` on, typed: most of that is
Python, which starts.
The agents share one process here, and all VMs, the core and the broker two processors: in the field
the carrier does its part on its own.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import web
from benchmarks.figures import Figure, Target, median_of, p95_of
from benchmarks.run import Run
from benchmarks.runtime import Runtime
from benchmarks.stage import DEPLOYMENT, SECONDS, Stage
from cnsmo.bus.events import Watch
from cnsmo.conf import CONF
from cnsmo.lab.topology import mesh

MANAGE = Path(sys.executable).with_name("cnsmo-manage")
CARRIERS, GROUP, BALANCER = "edge", "web", "www"
DOCUMENT = f"""deployment: {DEPLOYMENT}
loadbalancer:
  {BALANCER}:
    on: {CARRIERS}
    listen: 80
    pool: {{group: {GROUP}, port: {web.PORT}, via: underlay}}
    check: {{interval: 200ms}}
    drain: 1s
"""
SOON = Target(500.0)
MILLI = 1e3
KINDS = ("drain", "ready", "leave", "join")
GONE = (None, "drain")
"""What haproxy says of a server that gets nothing new."""


def measure(run: Run) -> list[Figure]:
    """See above."""
    hosts, rounds, warm_ups = run.scale.carried_hosts, run.scale.carried_rounds, run.scale.warm_ups
    found: dict[str, list[float]] = {kind: [] for kind in ("typed", "listed", *KINDS)}
    with _scene(run, hosts) as changes:
        run.expect(rounds)
        for number in range(warm_ups + rounds):
            if number == warm_ups:
                found = {kind: [] for kind in found}
            run.step(f"round {number + 1} of {warm_ups + rounds}")
            for kind, seconds in changes.round(number).items():
                found[kind].append(seconds * MILLI)
    declared = [sample for kind in KINDS for sample in found[kind]]
    name = f"{hosts} hosts: declared until effective"
    return [
        p95_of(name, "ms", declared, SOON),
        *(median_of(f"{name}: {kind}", "ms", found[kind]) for kind in KINDS),
        median_of(f"{hosts} hosts: joined until in haproxy", "ms", found["listed"]),
        p95_of(f"{hosts} hosts: drain typed until effective", "ms", found["typed"], SOON),
        median_of(f"{hosts} hosts: drain typed until effective", "ms", found["typed"]),
    ]


class Changes:
    """Of the members of a pool that is in force."""

    def __init__(self, stage: Stage, carrier: str, servers: list[str]) -> None:
        disk = stage.lab.vm(carrier).disk
        self._runtime = Runtime(disk / "agent" / "units" / "loadbalancer" / BALANCER / "haproxy")
        self._stage = stage
        self._servers = servers
        self._all_up()

    def round(self, number: int) -> dict[str, float]:
        """What each kind of change took, in seconds, with one of the servers."""
        host = self._servers[number % len(self._servers)]
        found = {"typed": self._type(host)}
        self._adjust(host, drain=False)
        self._all_up()
        found["drain"] = self._adjust(host, drain=True)
        self._stage.settle(*self._servers)
        found["ready"] = self._adjust(host, drain=False)
        self._all_up()
        found["leave"] = self._leave(host)
        self._runtime.wait(lambda seen: host not in seen, SECONDS)
        found["listed"], found["join"] = self._join(host)
        self._all_up()
        return found

    def _type(self, host: str) -> float:
        begun = time.monotonic()
        with open(self._stage.directory / "manage.log", "ab") as log:
            command = subprocess.Popen(
                [MANAGE, "--config-file", str(self._stage.config),
                 "loadbalancer", "drain", host, "--deployment", DEPLOYMENT],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        effective = self._drained(host)
        if command.wait(SECONDS):
            raise RuntimeError(f"cnsmo-manage failed: see {log.name}")
        return effective - begun

    def _adjust(self, host: str, drain: bool) -> float:
        said, call = {"drain": drain or None}, self._stage.client.adjust
        begun = time.monotonic()
        self._stage.revision = call(DEPLOYMENT, "loadbalancer", [BALANCER], host, said)
        return (self._drained(host) if drain else self._serves(host)) - begun

    def _leave(self, host: str) -> float:
        begun = time.monotonic()
        self._stage.remove(host)
        return self._drained(host) - begun

    def _join(self, host: str) -> tuple[float, float]:
        """From when the core says that it has it: until haproxy has it, and until it serves."""
        with Watch(CONF) as watch:
            self._stage.fleet.ask(start={host: self._stage.token([GROUP])})
            self._there(host)
            there = time.time()
            self._serves(host)
            serves = time.time()
            until = time.monotonic() + SECONDS
            while (event := watch.next(max(0.0, until - time.monotonic()))) is not None:
                if event.type == "agent.joining" and event.host == host:
                    joined = event.at.timestamp()
                    return there - joined, serves - joined
        raise TimeoutError(f"nobody tells that {host} joined")

    def _drained(self, host: str) -> float:
        return self._runtime.wait(lambda seen: seen.get(host) in GONE, SECONDS)

    def _there(self, host: str) -> float:
        return self._runtime.wait(lambda seen: seen.get(host) not in GONE, SECONDS)

    def _serves(self, host: str) -> float:
        return self._runtime.wait(lambda seen: seen.get(host) == "up", SECONDS)

    def _all_up(self) -> None:
        self._stage.settle(*self._servers)
        self._runtime.wait(
            lambda seen: all(seen.get(host) == "up" for host in self._servers), SECONDS
        )


@contextlib.contextmanager
def _scene(run: Run, hosts: int) -> Iterator[Changes]:
    with Stage(run, mesh(hosts, sites=1)) as stage, contextlib.ExitStack() as stack:
        carrier, *servers = stage.lab.vms()
        for vm in servers:
            stack.enter_context(web.server(vm, stage.directory))
        run.tell(f"{hosts} hosts join")
        stage.join([carrier.name], [CARRIERS])
        names = [vm.name for vm in servers]
        stage.join(names, [GROUP])
        stage.revision = stage.client.apply(DOCUMENT).revision or 0
        stage.settle()
        yield Changes(stage, carrier.name, names)
