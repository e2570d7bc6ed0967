# SPDX-License-Identifier: Apache-2.0
"""The agent's worker of one carrier, in a VM. ``DIRECTORY``; see throughput_balancer and pool.

The worker, its service, drivers and replica are the real ones; the core is a script, which answers
a sync with what it is told to.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import cnsmo.cmd  # noqa: F401  chooses the threading backend
from benchmarks import rows
from benchmarks.child import serve
from benchmarks.member_process import REVISION, ScriptedCore
from benchmarks.runtime import Runtime
from cnsmo.agent.heartbeat import Heart
from cnsmo.agent.identity import EVERY_SERVICE, HostIdentity, StateDir
from cnsmo.agent.settings import Settings
from cnsmo.agent.standing import Standing
from cnsmo.agent.system import LocalSystem
from cnsmo.agent.wakeup import Reason, Wakeup
from cnsmo.agent.worker import Worker
from cnsmo.services import registry
from cnsmo.services.loadbalancer.drivers.hap_socket import HapSocket

SERVICE = "loadbalancer"
SETTLE_SECONDS = 120.0
LOOK_SECONDS = 0.25
Tell = Callable[[HapSocket, Iterable[str]], Iterator[tuple[str, str]]]


class Carrier:
    """The host, alone in the group of carriers; all other hosts are of the pool."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._core, self._standing = ScriptedCore(), Standing(Wakeup())
        self._orders: list[tuple[str, float]] = []
        """What haproxy was told, and the monotonic time at which it had done so."""
        HapSocket.tell = self._noted(HapSocket.tell)  # type: ignore[assignment, method-assign]
        self._revision = REVISION
        self._worker: Worker

    def answer(self, question: dict[str, Any]) -> Any:
        """``declare``: specs by instance, ``addresses``: of the hosts, our own first; until all
        servers are up. ``join``: one more host, of that number.

        :return: of a join, seconds from the receipt of its row: until haproxy has taken the last
            order about it, until the worker had done all else, until it was found to be up; and
            the ids of haproxy's workers before and after.
        """
        match question:
            case {"declare": specs, "addresses": addresses}:
                self._begin(specs, addresses)
            case {"join": number}:
                return self._join(number)
            case {"remove": _}:
                return self._worker.teardown()
        return None

    def _begin(self, specs: dict[str, Any], addresses: list[str]) -> None:
        self._worker = self._made(addresses[0])
        told = [rows.balancer(name, spec, REVISION) for name, spec in specs.items()]
        own, *theirs = addresses
        told.append(rows.host(0, REVISION, own, rows.CARRIERS))
        told += [rows.host(number, REVISION, at) for number, at in enumerate(theirs, 1)]
        self._core.tell(*told, revision=REVISION)
        self._worker.work({Reason.SYNC, Reason.REPORT})
        self._settle(len(specs) * (len(addresses) - 1))

    def _made(self, address: str) -> Worker:
        state_dir = StateDir(self._directory / "agent", EVERY_SERVICE)
        state_dir.open()
        settings = Settings(
            state_dir=state_dir,
            host=rows.host_name(0),
            services=(SERVICE,),
            system=LocalSystem(),
            facts=lambda: rows.facts(0, address),
            token=lambda: "",
        )
        identity = HostIdentity(
            id="id-0", secret="", deployment=rows.DEPLOYMENT, host=settings.host
        )
        heart = Heart(settings.heartbeat, settings.services, self._core, Wakeup())
        return Worker(settings, identity, self._core, heart, self._standing)

    def _settle(self, servers: int) -> None:
        """Wait until so many servers are up. Raises TimeoutError."""
        until = time.monotonic() + SETTLE_SECONDS
        while (found := self._states()).count("up") < servers:
            if time.monotonic() > until:
                raise TimeoutError(f"not all servers come up: {found[:20]} {self._core.reports}")
            soon = min(self._worker.look_at, time.monotonic() + LOOK_SECONDS)
            time.sleep(max(0.0, soon - time.monotonic()))
            self._worker.look()
            self._worker.look_for_figures()

    def _states(self) -> list[str]:
        stand = self._standing.last(registry.service(SERVICE))
        seen = stand.outcome.observation.values() if stand else ()
        return [
            server["state"]
            for detail in seen
            for pool in detail["servers"].values()
            for server in pool.values()
        ]

    def _join(self, number: int) -> dict[str, Any]:
        self._revision += 1
        self._orders.clear()
        runtime = Runtime(self._directory / "agent" / "units" / SERVICE / "www" / "haproxy")
        before, name = runtime.workers(), rows.host_name(number)
        self._core.tell(rows.host(number, self._revision), revision=self._revision)
        self._worker.work({Reason.SYNC})
        done, received = time.monotonic(), self._core.answered
        told = max((at for order, at in self._orders if f"/{name}_" in order), default=done)
        checked = runtime.wait(lambda seen: seen.get(name) == "up", SETTLE_SECONDS)
        return {
            "told": told - received,
            "done": done - received,
            "checked": checked - received,
            "workers": [before, runtime.workers()],
        }

    def _noted(self, tell: Tell) -> Tell:
        def noted(worker: HapSocket, commands: Iterable[str]) -> Iterator[tuple[str, str]]:
            for command, answer in tell(worker, commands):
                self._orders.append((command, time.monotonic()))
                yield command, answer

        return noted


def main() -> None:
    """Entry point of the helper process."""
    serve(Carrier(Path(sys.argv[1])).answer)


if __name__ == "__main__":
    main()
