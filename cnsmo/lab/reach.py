# SPDX-License-Identifier: Apache-2.0
"""Who reaches whom over the VPN: real pings from inside every VM to every other's VPN address."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from cnsmo.agent.system import LocalSystem
from cnsmo.lab.vm import Vm

Matrix = dict[tuple[str, str], float | None]
"""Round trip in milliseconds by (from, to); None: no answer."""


def ping(system: LocalSystem, address: str, seconds: int) -> float | None:
    """Echo requests, 0.2 s apart, until one is answered or the seconds are over.

    :return: the round trip in milliseconds; None when no answer came.
    """
    until = time.monotonic() + seconds
    while True:
        left = max(1, math.ceil(until - time.monotonic()))
        done = system.run(
            "ping", "-n", "-c", "1", "-w", str(left), "-i", "0.2", address,
            ok=(0, 1, 2), timeout=left + 10.0,
        )  # fmt: skip
        for line in done.stdout.splitlines():
            if " time=" in line:
                return float(line.partition(" time=")[2].split()[0])
        if time.monotonic() >= until:
            return None
        time.sleep(0.05)  # ping gave up at once: there is no route yet, and no event for one


def matrix(vms: Iterable[Vm], addresses: Mapping[str, str], seconds: int = 5) -> Matrix:
    """Ping from every VM to every other that has a VPN address, eight at a time."""
    systems = {vm.name: vm.system() for vm in vms if vm.name in addresses}
    pairs = [(one, other) for one in systems for other in addresses if one != other]
    with ThreadPoolExecutor(8) as pool:
        times = pool.map(lambda pair: ping(systems[pair[0]], addresses[pair[1]], seconds), pairs)
    return dict(zip(pairs, times, strict=True))


def silent(found: Matrix) -> list[str]:
    """Pairs that did not answer, as ``web1 -> db1``."""
    return [f"{one} -> {other}" for (one, other), took in sorted(found.items()) if took is None]
