# SPDX-License-Identifier: Apache-2.0
"""Throughput of one TCP stream between two VMs, by iperf3."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.inside import Inside
from cnsmo.lab.vm import Vm

MEGA = 1e6
PORT = 5201
REACH_SECONDS = 20.0


@contextlib.contextmanager
def server(vm: Vm, log: Path) -> Iterator[None]:
    """Serves, one client at a time, on all addresses of a VM."""
    with Inside(vm, "iperf3", "-s", "-p", str(PORT), log=log):
        yield


def throughput(vm: Vm, address: str, seconds: int) -> float:
    """Mbit/s of payload that arrived, sent from the VM for so many seconds.

    :raises RuntimeError: with what iperf3 said, when it failed twice (a server may be busy still).
    """
    done = _run(vm, address, seconds)
    if "sum_received" not in done["end"]:
        time.sleep(1.0)
        done = _run(vm, address, seconds)
    if "sum_received" not in done["end"]:
        raise RuntimeError(f"iperf3 from {vm.name} to {address}: {done.get('error', done)}")
    return float(done["end"]["sum_received"]["bits_per_second"]) / MEGA


def await_server(vm: Vm, address: str) -> None:
    """Wait until the way to the server is open. Raises TimeoutError."""
    until = time.monotonic() + REACH_SECONDS
    while vm.system().run("ping", "-c", "1", "-W", "1", address, ok=(0, 1, 2)).code:
        if time.monotonic() > until:
            raise TimeoutError(f"{vm.name} does not reach {address}")
        time.sleep(0.1)


def _run(vm: Vm, address: str, seconds: int) -> dict[str, Any]:
    args = ("iperf3", "-c", address, "-p", str(PORT), "-t", str(seconds), "-J")
    done = vm.system().run(*args, timeout=seconds + 30, ok=(0, 1))
    return {"end": {}, **json.loads(done.stdout)}
