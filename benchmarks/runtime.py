# SPDX-License-Identifier: Apache-2.0
"""What a carrier's haproxy says by its runtime API: who serves, and by which worker.

There is no event for it, so it is asked often: each time takes it less than a millisecond.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from cnsmo.services.loadbalancer.drivers.hap_socket import MASTER, HapSocket
from cnsmo.services.loadbalancer.drivers.hap_stat import Seen, read_servers, read_workers

PAUSE_SECONDS = 0.003


class Runtime:
    """Of the haproxy whose files are in a directory."""

    def __init__(self, directory: Path) -> None:
        self._worker, self._master = HapSocket(directory), HapSocket(directory, MASTER)

    def states(self) -> dict[str, str]:
        """By host: up, down (or not checked yet), drain (it gets nothing new)."""
        seen = read_servers(self._worker.ask("show servers state"))
        return {it.name.partition("_")[0]: _state(it) for it in seen}

    def wait(self, done: Callable[[Mapping[str, str]], bool], seconds: float) -> float:
        """Wait until the states are so.

        :return: the monotonic time. Raises TimeoutError.
        """
        until = time.monotonic() + seconds
        while not done(seen := self.states()):
            if time.monotonic() > until:
                raise TimeoutError(f"haproxy's servers do not become as expected: {seen}")
            time.sleep(PAUSE_SECONDS)
        return time.monotonic()

    def workers(self) -> list[int]:
        """Process ids: all others after a reload."""
        found = read_workers(self._master.ask("show proc"))
        return sorted(found.all) if found else []


def _state(server: Seen) -> str:
    if server.stopped or server.drained:
        return "drain"
    return "down" if server.down else "up"
