# SPDX-License-Identifier: Apache-2.0
"""Traffic in both directions of a scene, for as long as a ``with`` block lasts."""

import contextlib
import dataclasses
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tests.functional.firewall import traffic
from tests.functional.firewall.scene import ONE, Scene
from tests.functional.firewall.traffic import Calls, Lane
from tests.functional.vpn.vms import Pings, Vm

FLOOD, FLOOD_SECONDS = 250, 0.001


@dataclasses.dataclass(frozen=True)
class Caller:
    """A program that sends along its lanes, one after the other; ``pace``: seconds in between."""

    pace: float
    lanes: tuple[Lane, ...]


@dataclasses.dataclass(frozen=True)
class Flood:
    """From when to when, in seconds of the monotonic clock, and what ping(8) counted."""

    begun: float
    done: float
    pings: Pings


class Traffic:
    """What is sent to the host under test, what it sends, and a flood of pings.

    Afterwards: what became of each lane, how much arrived there, and all floods.
    """

    def __init__(self, scene: Scene, inbound: Sequence[Caller], outbound: Sequence[Caller]) -> None:
        self.calls: dict[Lane, Calls] = {}
        self.arrived: Counter[Lane] = Counter()
        self.floods: list[Flood] = []
        self._scene = scene
        self._ways = [
            (scene.two, scene.one, inbound),
            (scene.one, scene.two, outbound),
        ]
        self._servers: list[subprocess.Popen[str]] = []
        self._callers: list[subprocess.Popen[str]] = []
        self._programs = contextlib.ExitStack()
        self._over = threading.Event()
        self._flood = threading.Thread(target=self._ping, daemon=True)

    def __enter__(self) -> "Traffic":
        with contextlib.ExitStack() as stack:
            for source, target, callers in self._ways:
                lanes = [str(lane) for caller in callers for lane in caller.lanes]
                self._servers.append(stack.enter_context(_start(target, "serve", *lanes)))
                for caller in callers:
                    args = ("call", str(caller.pace), *map(str, caller.lanes))
                    self._callers.append(stack.enter_context(_start(source, *args)))
            self._programs = stack.pop_all()
        self._flood.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._over.set()
        self._flood.join(30)
        assert not self._flood.is_alive()
        with self._programs:
            for caller in self._callers:
                for lane, calls in _told(caller).items():
                    self.calls[Lane.read(lane)] = Calls(**calls)
            for server in self._servers:
                self.arrived.update({Lane.read(it): count for it, count in _told(server).items()})

    def _ping(self) -> None:
        """One flood after the other, each until its last answer."""
        while not self._over.is_set():
            begun = time.monotonic()
            pings = self._scene.two.ping(ONE, FLOOD, FLOOD_SECONDS)
            self.floods.append(Flood(begun, time.monotonic(), pings))


def _start(vm: Vm, *args: str) -> "subprocess.Popen[str]":
    made = subprocess.Popen(
        [*vm.system.enter, sys.executable, "-I", "-S", traffic.__file__, *args],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert made.stdout
    assert made.stdout.readline().strip() == "ready"
    return made


def _told(program: "subprocess.Popen[str]") -> dict[str, Any]:
    """End a program; what it counted."""
    said, _ = program.communicate(timeout=60)
    told: dict[str, Any] = json.loads(said)
    return told
