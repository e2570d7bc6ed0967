# SPDX-License-Identifier: Apache-2.0
"""Requests per second that a client gets answered, by wrk(1)."""

from __future__ import annotations

import re

from cnsmo.lab.vm import Vm

CONNECTIONS = 32
RATE = re.compile(r"^Requests/sec:\s+([\d.]+)$", re.MULTILINE)
FAILED = re.compile(r"^\s*(Non-2xx or 3xx responses|Socket errors): (.*)$", re.MULTILINE)


def rate(vm: Vm, url: str, seconds: int, fresh: bool = False) -> float:
    """Requests per second from the VM, on connections that stay open.

    fresh: each on a connection of its own.

    :raises RuntimeError: when one was not answered well.
    """
    options = ("-H", "Connection: close") if fresh else ()
    done = vm.system().run(
        "wrk", "-t", "1", "-c", str(CONNECTIONS), "-d", f"{seconds}s", *options, url,
        timeout=seconds + 30,
    )  # fmt: skip
    found, failed = RATE.search(done.stdout), FAILED.search(done.stdout)
    if found is None or failed or not float(found[1]):
        raise RuntimeError(f"wrk from {vm.name} to {url}: {done.stdout}{done.stderr}")
    return float(found[1])
