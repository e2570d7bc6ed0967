# SPDX-License-Identifier: Apache-2.0
"""A deployment to measure: VMs (or none), a core in a process of its own, agents in another one.

The bus is RabbitMQ, the database SQLite unless another is given, all periods are the field's
defaults.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.child import Child
from benchmarks.run import Run
from cnsmo.bus import transport
from cnsmo.bus.clients import OperatorClient
from cnsmo.bus.events import Watch
from cnsmo.conf import CONF
from cnsmo.lab import topology
from cnsmo.lab.lab import Lab
from cnsmo.lab.network import NETNS
from cnsmo.lab.place import base
from cnsmo.lab.topology import Topology
from cnsmo.model.lifecycle import State
from cnsmo.model.messages import HostStatus, TokenRequest
from cnsmo.services import registry
from tests.beds.ports import PortLease
from tests.joining import door_config

DEPLOYMENT = "bench"
SECONDS = 180.0
"""How long anything may take before the benchmark gives up."""
LOOK_SECONDS = 0.25
RELAY_PORT = 5672
CONNECTIONS = 300
"""To the broker, that one process may have: many agents share one."""


class Stage:
    """Up while its context lasts. ``lab`` is there when it was given a topology."""

    lab: Lab
    client: OperatorClient
    core: Child
    fleet: Child
    revision: int
    """Of the last change that the operator made here."""

    def __init__(
        self, run: Run, plan: Topology | None = None, config: str = "", database: str = ""
    ) -> None:
        """config: what core and agents have in their configuration besides. database: URL of an
        empty one."""
        self.database = database
        self._run = run
        self._config = config
        self._plan = plan
        self._stack = contextlib.ExitStack()
        self.revision = 0
        self.directory = run.directory()
        self.config = self.directory / "cnsmo.conf"
        """Of core and fleet; an operator's commands may use it, too."""

    def __enter__(self) -> Self:
        try:
            self._raise()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def join(self, hosts: Iterable[str], groups: Iterable[str] = ("mesh",)) -> None:
        """Start agents of the fleet; returns when all of them have joined and all is in force."""
        tokens = {host: self.token(groups) for host in hosts}
        self.fleet.ask(start=tokens)
        self.settle(*tokens)

    def token(self, groups: Iterable[str] = ("mesh",)) -> str:
        """A new join token."""
        return str(self.client.token_create(DEPLOYMENT, TokenRequest(groups=list(groups))).token)

    def apply(self, vpn: str = "") -> None:
        """Declare VPNs, as a YAML mapping in one line; none when left out."""
        plan = self.client.apply(f"deployment: {DEPLOYMENT}\nvpn: {{{vpn}}}\n")
        self.revision = plan.revision or 0

    def remove(self, host: str) -> None:
        """Remove a host; its agent then takes everything down and ends."""
        self.revision = self.client.host_remove(DEPLOYMENT, host)

    def addresses(self, instance: str) -> dict[str, str]:
        """VPN address by host."""
        members = self.client.member_list(DEPLOYMENT, "vpn", instance)
        return {host: row.body["addresses"][0] for host, row in members.items()}

    def hosts(self) -> list[HostStatus]:
        """All hosts with their agents."""
        return self.client.host_list(DEPLOYMENT)

    def settle(self, *names: str) -> None:
        """Wait until these hosts have joined, and every agent is ready and has applied all."""
        self.until(lambda: self._settled(names), "all agents are ready")

    def until(self, done: Callable[[], bool], what: str) -> None:
        """Ask until it is so. Raises TimeoutError."""
        until = time.monotonic() + SECONDS
        while not done():
            if time.monotonic() > until:
                stand = [(agent.host, agent.state.value, agent.reason, agent.applied_revision)
                         for host in self.hosts() for agent in host.agents]  # fmt: skip
                raise TimeoutError(f"waited in vain until {what}: {stand}")
            time.sleep(LOOK_SECONDS)

    @contextlib.contextmanager
    def announced(self, host: str) -> Iterator[Callable[[], float]]:
        """Listen for a host's announcement to a VPN.

        :return: waits for it, and says at what monotonic time it was heard of.
        """

        def wait() -> float:
            until = time.monotonic() + SECONDS
            while (event := watch.next(max(0.0, until - time.monotonic()))) is not None:
                if event.type == "vpn.member.declared" and event.host == host:
                    return time.monotonic()
            raise TimeoutError(f"{host} did not announce itself within {SECONDS:g} s")

        with Watch(CONF) as watch:
            yield wait

    def agent_config(self, host: str, token: str) -> Path:
        """Configuration of a real agent in a VM, which reaches broker and core by relays."""
        place = self.directory / host
        place.mkdir(exist_ok=True)
        (place / "token").write_text(token)
        seat = self.lab.vm(host).seat
        core = str(topology.core_address().ip)
        url = self._url.replace(f"127.0.0.1:{self._run.broker.port}", f"{core}:{RELAY_PORT}")
        door = dataclasses.replace(self.door, join_url=f"https://{core}:{self._join_port}")
        path = place / "cnsmo.conf"
        path.write_text(
            f"[bus]\nurl = {url}\n"
            f"[agent]\nstate_dir = {place}/agent\ntoken_file = {place}/token\n{door.config()}"
            f"[host]\nname = {host}\nsite = {seat.spec.site}\n"
            f"public_addresses = {seat.address.ip}\n"
        )
        return path

    def child(self, module: str, *args: str) -> Child:
        """One more helper process, which ends with the stage."""
        return self._stack.enter_context(Child(module, *args, log=self.directory / f"{module}.log"))

    def second_config(self) -> Path:
        """Configuration of a second core, which lets hosts join at a port of its own, and of those
        hosts."""
        port = self._stack.enter_context(PortLease()).port
        path = self.directory / "second.conf"
        path.touch(mode=0o600)
        text = self.config.read_text()
        text = text.replace(f"port = {self._join_port}\n", f"port = {port}\n")
        path.write_text(text.replace(self.door.join_url, f"https://127.0.0.1:{port}"))
        return path

    def _settled(self, names: Collection[str]) -> bool:
        """Revisions that only tell of agents' states are not waited for: nobody applies them."""
        hosts = self.hosts()
        if not {host.name for host in hosts} >= set(names):
            return False
        revisions = [self.revision]
        for row in self.client.service_list(DEPLOYMENT):
            revisions.append(row.revision)
            if registry.service(row.kind).Announcement is None:
                continue
            members = self.client.member_list(DEPLOYMENT, row.kind, row.name)
            if len(members) < len(hosts):
                return False
            revisions += [member.revision for member in members.values()]
        return all(
            agent.state is State.READY and agent.applied_revision >= max(revisions)
            for host in hosts
            for agent in host.agents
        )

    def _raise(self) -> None:
        broker = self._run.broker
        self._run.tell("raising the stage")
        self._join_port = self._stack.enter_context(PortLease()).port
        if self._plan is not None:
            self.lab = Lab(base() / self._run.lab_name)
            self._stack.callback(self.lab.down)
            self.lab.up(self._plan)
            if self._plan.core:
                self._start_relay(RELAY_PORT, broker.port)
                self._start_relay(self._join_port, self._join_port)
        vhost = broker.create_vhost()
        self._stack.callback(broker.delete_vhost, vhost)
        self._url = vhost.transport_url
        joining, self.door = door_config(self.directory / "ca", self._join_port)
        database = self.database or f"sqlite:///{self.directory}/state.sqlite"
        self.config.touch(mode=0o600)
        self.config.write_text(
            f"[bus]\nurl = {self._url}\nshared_account = true\n"
            f"[database]\nconnection = {database}\n"
            f"[secrets]\nkey_file = {self.directory}/secrets.json\n"
            f"[oslo_messaging_rabbit]\nrpc_conn_pool_size = {CONNECTIONS}\n"
            f"{joining}[agent]\n{self.door.config()}{self._config}"
        )
        self.core = self.child("core_process", str(self.config))
        CONF.set_override("url", self._url, "bus")
        self._stack.callback(transport.close)
        self.client = OperatorClient(CONF)
        self.client.deployment_create(DEPLOYMENT)
        lab = [str(self.lab.directory)] if self._plan is not None else []
        self.fleet = self.child("fleet_process", str(self.config), *lab)

    def _start_relay(self, port: int, target: int) -> None:
        address = str(topology.core_address().ip)
        namespace = NETNS / self.lab.network.namespace(topology.CORE)
        self.child("relay", str(namespace), address, str(port), str(target))
