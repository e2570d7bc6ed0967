# SPDX-License-Identifier: Apache-2.0
"""The agent's worker of one host of a large group, in a VM. ``DIRECTORY``; see member.

The worker, its services, drivers and replica are the real ones; the core is a script, which answers
a sync with what it is told to.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import cnsmo.cmd  # noqa: F401  chooses the threading backend
from benchmarks import rows
from benchmarks.child import serve
from benchmarks.timed import TimedSystem
from cnsmo.agent.heartbeat import Heart
from cnsmo.agent.identity import EVERY_SERVICE, HostIdentity, StateDir
from cnsmo.agent.settings import Settings
from cnsmo.agent.wakeup import Reason, Wakeup
from cnsmo.agent.worker import Worker
from cnsmo.bus.clients import CoreClient
from cnsmo.model.lifecycle import State
from cnsmo.model.messages import AgentReport, Heartbeat, HeartbeatAnswer
from cnsmo.model.resource import Changes, Row
from cnsmo.services import registry
from cnsmo.services.firewall.drivers.guard import SLOTS

SET = f"m_{rows.GROUP}_u_4"
REVISION = 1


class ScriptedCore(CoreClient):
    """Answers like a core that has nothing to say but what it is told to."""

    def __init__(self) -> None:
        self.answered = 0.0
        """When it answered a sync, of the monotonic clock."""
        self.reports: dict[str, AgentReport] = {}
        self._next: Changes | None = None

    def tell(self, *told: Row, revision: int) -> None:
        """What the next sync shall answer."""
        snapshot = revision == REVISION
        self._next = Changes(
            deployment=rows.DEPLOYMENT, head=revision, snapshot=snapshot, rows=list(told)
        )

    def sync(self, since: int) -> Changes:
        told, self._next = self._next, None
        nothing = Changes(deployment=rows.DEPLOYMENT, head=since, snapshot=False, rows=[])
        self.answered = time.monotonic()
        return told or nothing

    def facts(self, facts: BaseModel) -> None: ...

    def knock(self, patience: float) -> None: ...

    def report(self, report: AgentReport) -> None:
        self.reports[report.service] = report

    def heartbeat(self, beat: Heartbeat) -> HeartbeatAnswer:
        return HeartbeatAnswer(head=max(beat.applied.values()), confirmed={})


class Member:
    """The host, one of a group that may use a port of it."""

    def __init__(self, directory: Path) -> None:
        self._core, self._system = ScriptedCore(), TimedSystem()
        self._revision = REVISION
        self._handed: list[float] = []
        for name in rows.SERVICES:
            service = registry.service(name)
            service.compile = self._noted(service.compile)  # type: ignore[method-assign]
        state_dir = StateDir(directory / "agent", EVERY_SERVICE)
        state_dir.open()
        settings = Settings(
            state_dir=state_dir,
            host=rows.host_name(0),
            services=rows.SERVICES,
            system=self._system,
            facts=lambda: rows.facts(0),
            token=lambda: "",
        )
        identity = HostIdentity(
            id="id-0", secret="", deployment=rows.DEPLOYMENT, host=settings.host
        )
        heart = Heart(settings.heartbeat, settings.services, self._core, Wakeup())
        self._worker = Worker(settings, identity, self._core, heart)

    def answer(self, question: dict[str, Any]) -> Any:
        """``members``: how many are there at first, and which port they may use; then ``join``.

        :return: of a join, seconds until the element is in the kernel, by where one begins.
        """
        match question:
            case {"members": count, "port": port, "also": addresses}:
                self._begin(count, port, addresses)
            case {"join": number}:
                return self._join(number)
        return None

    def _begin(self, count: int, port: int, addresses: list[str]) -> None:
        spec = {"inbound": [{"from": rows.GROUP, "protocol": "tcp", "ports": port}]}
        told = [rows.policy(spec, REVISION)]
        for number in range(count - len(addresses)):
            told += [rows.host(number, REVISION), *rows.agents(number, REVISION)]
        for number, address in enumerate(addresses, count):
            told += [rows.host(number, REVISION, address), *rows.agents(number, REVISION)]
        self._core.tell(*told, revision=REVISION)
        self._worker.work({Reason.SYNC, Reason.REPORT})
        self._check()

    def _join(self, number: int) -> dict[str, float]:
        self._revision += 1
        self._handed.clear()
        self._system.ran.clear()
        self._core.tell(rows.host(number, self._revision), revision=self._revision)
        self._worker.work({Reason.SYNC})
        done, answered = self._system.loaded_at(), self._core.answered
        self._check()
        if not any(self._holds(f"{SET}.{slot}", rows.address(number)) for slot in SLOTS):
            raise RuntimeError(f"host {number} is not in the kernel")
        return {"compile": done - self._handed[0], "receipt": done - answered}

    def _holds(self, name: str, address: str) -> bool:
        words = ("nft", "get", "element", "inet", "cnsmo", name, f"{{ {address} }}")
        return self._system.run(*words, ok=(0, 1)).code == 0

    def _check(self) -> None:
        for report in self._core.reports.values():
            if report.state is not State.READY:
                raise RuntimeError(f"{report.service} is {report.state}: {report.reason}")

    def _noted(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any) -> Any:
            self._handed.append(time.monotonic())
            return method(*args)

        return noted


def main() -> None:
    """Entry point of the helper process."""
    serve(Member(Path(sys.argv[1])).answer)


if __name__ == "__main__":
    main()
