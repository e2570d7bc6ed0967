# SPDX-License-Identifier: Apache-2.0
"""Many agents, a few threads each, in one process of their own. ``CONFIG-FILE [LAB-DIRECTORY]``.

With a lab, each acts in the VM of its name; without, it has no VM, and a driver that needs none is
what the deployment has to declare. The periods are the field's defaults. Of several such processes
each starts hosts of other numbers.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import threading
from pathlib import Path
from typing import Any

import cnsmo.cmd  # noqa: F401  chooses the threading backend
from benchmarks.agent_watch import AgentWatch, report_often
from benchmarks.child import serve
from benchmarks.meter import Meter
from cnsmo import conf
from cnsmo.agent.identity import StateDir
from cnsmo.agent.process import AgentProcess
from cnsmo.agent.settings import Settings
from cnsmo.agent.system import LocalSystem
from cnsmo.lab import hub
from cnsmo.lab.lab import Lab
from cnsmo.model.host import HostFacts
from cnsmo.services import registry

END_SECONDS = 60.0


class Fleet:
    """The agents."""

    def __init__(self, lab: Lab | None, directory: Path) -> None:
        self._lab = lab
        self._directory = directory
        self._meter = Meter()
        self._agents: list[AgentProcess] = []
        self._watch = AgentWatch()
        self._threads: dict[str, threading.Thread] = {}

    def answer(self, question: dict[str, Any]) -> Any:
        """``start``: hosts whose agents shall start, with their tokens. ``services``: which they
        run; all, if left out. ``reports``: how often each shall report, as fast as it can be.

        :return: what it has cost so far; ``applied``: the revision that every agent has in force;
            ``times``: when each had, by the monotonic clock, the revision that was asked for.
        """
        services = tuple(question.get("services") or registry.services())
        for host, token in question.get("start", {}).items():
            self._until_ended(host)
            agent = AgentProcess(conf.CONF, self._settings(host, token, services))
            self._watch.over(host, agent)
            self._threads[host] = threading.Thread(target=agent.run, name=host, daemon=True)
            self._threads[host].start()
            self._agents.append(agent)
        if "reports" in question:
            report_often(self._agents, question["reports"])
        return {
            **self._meter.read(),
            **self._watch.read(),
            "joined": sum(bool(agent._client.context) for agent in self._agents),
            "applied": min(map(_applied, self._agents), default=0),
            "times": self._watch.times(question.get("times")),
        }

    def _until_ended(self, host: str) -> None:
        """Let an earlier agent of the host, which was removed, end first: the directory is its."""
        earlier = self._threads.get(host)
        if earlier is not None:
            earlier.join(END_SECONDS)
            if earlier.is_alive():
                raise TimeoutError(f"the earlier agent of {host} does not end")

    def _settings(self, host: str, token: str, services: tuple[str, ...]) -> Settings:
        if self._lab is not None:
            made = hub.settings(self._lab.vm(host), token)
        else:
            number = int("".join(filter(str.isdecimal, host)) or len(self._agents))
            address = f"172.{16 + number // 62500}.{number // 250 % 250}.{number % 250 + 1}"
            facts = functools.partial(HostFacts, private=(f"{address}/12",), public=(address,))
            made = Settings(
                state_dir=StateDir(self._directory / "agents" / host, "all"),
                host=host,
                services=services,
                system=LocalSystem(),
                facts=facts,
                token=lambda: token,
            )
        group = conf.CONF.agent
        return dataclasses.replace(
            made,
            heartbeat=group.heartbeat,
            resync=group.resync,
            rpc_timeout=group.rpc_timeout,
            retry_max=group.retry_max,
            join_url=group.join_url,
            ca_fingerprint=group.ca_fingerprint,
        )


def _applied(agent: AgentProcess) -> int:
    return agent._heart.applied_revision("vpn")


def main() -> None:
    """Entry point of the helper process."""
    conf.load(["--config-file", sys.argv[1]])
    lab = Lab.load(Path(sys.argv[2])) if sys.argv[2:] else None
    serve(Fleet(lab, Path(sys.argv[1]).parent).answer)


if __name__ == "__main__":
    main()
