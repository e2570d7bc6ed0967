# SPDX-License-Identifier: Apache-2.0
"""A lab with a core and real agents, in this process; drivers work on real interfaces."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import threading
import time
from pathlib import Path
from typing import Any

from oslo_config import cfg

from cnsmo.agent.process import AgentProcess
from cnsmo.bus.clients import OperatorClient
from cnsmo.bus.events import Watch
from cnsmo.core.server import CoreServer
from cnsmo.lab import reach
from cnsmo.lab.hub import settings
from cnsmo.lab.lab import Lab
from cnsmo.lab.topology import Topology, VmSpec
from cnsmo.lab.vm import Vm
from cnsmo.model.errors import Removed
from cnsmo.model.messages import AgentStatus, EventMessage, TokenRequest
from cnsmo.services import registry
from tests.eventually import eventually
from tests.joining import Door

DEPLOYMENT = "shop"


class World:
    """Raise it with VMs, apply documents, break things, look."""

    def __init__(self, conf: cfg.ConfigOpts, directory: Path, door: Door) -> None:
        self.lab = Lab(directory / f"w{secrets.token_hex(3)}")
        self._conf = conf
        self._door = door
        self._core = CoreServer(conf)
        self._agents: dict[str, tuple[AgentProcess, threading.Thread]] = {}

    def up(self, *vms: VmSpec) -> World:
        """A core, and VMs with an agent each that has joined."""
        sites = tuple(dict.fromkeys(vm.site for vm in vms))
        self.lab.up(Topology(vms, sites))
        self._core.start()
        self.client = OperatorClient(self._conf)
        self.client.deployment_create(DEPLOYMENT)
        self.watch = Watch(self._conf).__enter__()
        for vm in self.lab.vms():
            self.start_agent(vm.name)
        eventually(lambda: len(self.client.host_list(DEPLOYMENT)) == len(vms), 30)
        return self

    def down(self) -> None:
        """End everything."""
        for agent, _thread in self._agents.values():
            agent.stop()  # all at once: each takes a second to end
        for name in list(self._agents):
            self.stop_agent(name)
        if hasattr(self, "watch"):
            self.watch.__exit__(None, None, None)
            self._core.stop()
        self.lab.down()

    def start_agent(self, name: str, resync: float = 1.0) -> None:
        """Start the agent of a VM; at its first start it gets a token for its groups."""
        vm = self.lab.vm(name)
        request = TokenRequest(groups=list(vm.seat.spec.groups))
        token = self.client.token_create(DEPLOYMENT, request).token or ""
        made = dataclasses.replace(
            settings(vm, token, **dataclasses.asdict(self._door)), heartbeat=0.5, resync=resync
        )
        agent = AgentProcess(self._conf, made)
        thread = threading.Thread(target=_live, args=(agent,), name=name, daemon=True)
        self._agents[name] = (agent, thread)
        thread.start()

    def stop_agent(self, name: str) -> None:
        """Stop the agent of a VM; what it brought in force stays."""
        agent, thread = self._agents.pop(name)
        agent.stop()
        thread.join(15)
        assert not thread.is_alive()

    def forget_agent(self, name: str) -> None:
        """Wait until an agent has ended by itself, because its host was removed."""
        _agent, thread = self._agents.pop(name)
        thread.join(15)
        assert not thread.is_alive()

    def agent_ended(self, name: str) -> bool:
        """Whether an agent ended by itself."""
        return not self._agents[name][1].is_alive()

    def apply(self, vpns: str) -> int:
        """Apply a document with these VPNs (YAML, without its first line)."""
        plan = self.client.apply(f"deployment: {DEPLOYMENT}\n{vpns}")
        assert plan.revision is not None
        return plan.revision

    def settle(self, revision: int = 0, state: str = "ready", timeout: float = 30.0) -> None:
        """Wait until all agents are in that state and have applied that revision."""

        def all_agents() -> dict[str, AgentStatus]:
            return {
                f"{service} of {name}": agent
                for service in registry.services()
                for name, agent in self.agents(service).items()
            }

        def settled() -> bool:
            agents = all_agents()
            return len(agents) == len(self._agents) * len(registry.services()) and all(
                agent.applied_revision >= revision
                and (agent.state == state or (agent.service != "vpn" and agent.state == "ready"))
                for agent in agents.values()
            )

        try:
            eventually(settled, timeout)
        except AssertionError as exc:
            told = {n: (str(a.state), a.reason) for n, a in all_agents().items()}
            raise AssertionError(f"{exc}: {told}") from exc

    def agents(self, service: str = "vpn") -> dict[str, AgentStatus]:
        """The agents of a service on all hosts, by host."""
        return {
            host.name: agent
            for host in self.client.host_list(DEPLOYMENT)
            for agent in host.agents
            if agent.service == service
        }

    def addresses(self, vpn: str = "backbone") -> dict[str, str]:
        """The first VPN address of each member."""
        rows = self.client.member_list(DEPLOYMENT, "vpn", vpn)
        return {host: row.body["addresses"][0] for host, row in rows.items()}

    def unreached(self, vpn: str = "backbone", seconds: int = 10) -> list[str]:
        """Pairs of members that do not reach each other, after so many seconds of trying."""
        addresses = self.addresses(vpn)
        vms = [vm for vm in self.lab.vms() if vm.name in addresses]
        return reach.silent(reach.matrix(vms, addresses, seconds))

    def reaches(self, vm: str, address: str, seconds: int = 10) -> bool:
        """Whether the VM gets an answer from that address, after so many seconds of trying."""
        return reach.ping(self.lab.vm(vm).system(), address, seconds) is not None

    def tunnels(self) -> str:
        """How the tunnels stand, for the message of a test that fails; no private key."""
        shown = [(vm.name, self.run(vm.name, "wg", "show", "all")) for vm in self.lab.vms()]
        return "\n".join(f"--- {name}\n{text}" for name, text in shown)

    def event(self, kind: str, host: str, timeout: float = 15.0) -> EventMessage:
        """Wait for an event of that type about that host."""
        until = time.monotonic() + timeout
        while (left := until - time.monotonic()) > 0:
            event = self.watch.next(left)
            if event is not None and (event.type, event.host) == (kind, host):
                return event
        raise AssertionError(f"no {kind} of {host} within {timeout:g} s")

    def forget_events(self) -> None:
        """Take all events that have come so far."""
        while self.watch.next(0.01) is not None:
            pass

    def run(self, vm: str, *args: str, **options: Any) -> str:
        """Run a program in a VM."""
        return self.lab.vm(vm).system().run(*args, **options).stdout


def _live(agent: AgentProcess) -> None:
    with contextlib.suppress(Removed):
        agent.run()


def wireguard_interfaces(vm: Vm) -> list[str]:
    """Names of the WireGuard interfaces of a VM."""
    return vm.system().run("wg", "show", "interfaces").stdout.split()
