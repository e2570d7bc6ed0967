# SPDX-License-Identifier: Apache-2.0
"""How soon a host that is new is reached by all others.

20 VMs carry a mesh by CNSMO, one by nebula and one by tinc, all at once. A 21st VM starts: the real
cnsmo-agent, with nothing but a token and the broker's address; nebula or tinc, with keys and files
ready, and ready on all others too. In all cases the clock starts with the process, all 20 ping the
newcomer's address already, and the clock stops when the last of them has had an answer. In turns;
each time the newcomer is a new one, with new keys, and afterwards it is taken away.
All 21 VMs share this machine's processors, on which most of the time is spent: in the field the 20
would learn of the newcomer side by side.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.figures import Figure, Target, median_of, p95_of
from benchmarks.inside import Inside
from benchmarks.overlays.nebula import Nebula
from benchmarks.overlays.overlay import Node, Overlay
from benchmarks.overlays.tinc import Tinc
from benchmarks.pings import Pings
from benchmarks.run import Run
from benchmarks.stage import SECONDS, Stage
from cnsmo.lab.topology import mesh

VPN = "backbone: {cidr: 10.66.0.0/16}"
PERIOD = 0.02
Newcomer = Callable[[int], contextlib.AbstractContextManager[str]]
"""Is there while its context lasts: the number of the round in, its address in the VPN out."""
AGENT = Path(sys.executable).with_name("cnsmo-agent")


def measure(run: Run) -> list[Figure]:
    """See above."""
    hosts, rounds = run.scale.mesh_hosts, run.scale.newcomer_rounds
    plan = dataclasses.replace(mesh(hosts + 1), core=True)
    with Stage(run, plan) as stage, contextlib.ExitStack() as stack:
        *old, new = stage.lab.vms()
        run.tell(f"{hosts} hosts join")
        stage.join(vm.name for vm in old)
        stage.apply(VPN)
        stage.settle()
        newcomers: dict[str, Newcomer] = {"CNSMO": _joiner(stage, new.name, f"10.66.0.{hosts + 1}")}
        for kind in (Nebula, Tinc):
            run.tell(f"making {kind.name}")
            nodes = [Node(vm.name, number + 1, vm) for number, vm in enumerate(old)]
            late = [Node(f"new{n}", hosts + 1 + n, new) for n in range(rounds)]
            overlay = kind(run.directory(), [*nodes, *late])
            overlay.prepare()
            for node in nodes:
                stack.enter_context(overlay.launch(node))
            newcomers[kind.name] = _launcher(overlay, late)
        warm_up(run, stage, new.name)
        pings = stack.enter_context(Pings(old, stage.directory / "pings.log"))
        found: dict[str, list[float]] = {name: [] for name in newcomers}
        run.expect(rounds * len(found))
        for number in range(rounds):
            for name, samples in found.items():
                run.step(f"round {number + 1} of {rounds}: {name}")
                begun = time.monotonic()
                with newcomers[name](number) as address:
                    pings.begin({vm.name: [address] for vm in old}, PERIOD)
                    samples.append(pings.wait(SECONDS) - begun)
    target = {"CNSMO": Target(2.0)}
    texts = {name: f"{name}: start until all {hosts} reach it" for name in found}
    return [
        *(p95_of(texts[name], "s", found[name], target.get(name)) for name in found),
        *(median_of(texts[name], "s", found[name]) for name in found),
    ]


@contextlib.contextmanager
def agent(stage: Stage, host: str) -> Iterator[Inside]:
    """A real agent in a VM; in the end its host is removed, and it has taken everything down."""
    config = stage.agent_config(host, stage.token())
    process = Inside(
        stage.lab.vm(host), str(AGENT), "--config-file", str(config),
        log=stage.directory / f"{host}.log",
    )  # fmt: skip
    with process:
        yield process
        stage.settle(host)
        stage.remove(host)
        process.wait(SECONDS)
    stage.settle()


def warm_up(run: Run, stage: Stage, host: str) -> None:
    """Starts that do not count: what is slow only the first time."""
    for _ in range(run.scale.warm_ups):
        run.tell("a start that does not count")
        with agent(stage, host):
            stage.settle(host)


def _joiner(stage: Stage, host: str, address: str) -> Newcomer:
    """The address is the lowest free one, and later on the one that the host had."""

    @contextlib.contextmanager
    def joined(_number: int) -> Iterator[str]:
        with agent(stage, host):
            yield address

    return joined


def _launcher(overlay: Overlay, late: list[Node]) -> Newcomer:
    @contextlib.contextmanager
    def launched(number: int) -> Iterator[str]:
        with overlay.launch(late[number]):
            yield overlay.address(late[number])

    return launched
