# SPDX-License-Identifier: Apache-2.0
"""A core, a RabbitMQ, and five VMs with a real cnsmo-agent in each, in namespaces of a lab.

The broker listens on this machine's loopback; a relay in the lab's core namespace leads there. That
namespace is the operator's side, too: from there somebody knocks at the VMs' ports all the time.
VMs find the relay by one of two ways: the UNDERLAY, or the MANAGEMENT network, which is none of
CNSMO's: a VXLAN between each VM and the core, as a site may have for its own needs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

from benchmarks.child import Child
from benchmarks.inside import Inside
from cnsmo.bus import transport
from cnsmo.bus.clients import OperatorClient
from cnsmo.conf import CONF
from cnsmo.lab import topology
from cnsmo.lab.lab import Lab
from cnsmo.lab.network import NETNS
from cnsmo.lab.topology import Topology, VmSpec
from cnsmo.lab.vm import Vm
from cnsmo.model.messages import AgentStatus, TokenRequest
from cnsmo.state import schema
from cnsmo.state.engine import engine_for
from cnsmo.state.vault import Vault
from tests.acceptance.doors import Door, Doors, Gap, listening
from tests.beds import Vhost
from tests.beds.ports import PortLease
from tests.beds.process import tail
from tests.eventually import eventually
from tests.functional.firewall import listing, probe
from tests.integration.fleet import Program
from tests.joining import door_config

DEPLOYMENT = "shop"
HOSTS = tuple(f"web{number}" for number in range(1, 6))
SSH, APP, CLOSED = 22, 8080, 9999
"""TCP ports at which somebody listens in each VM; no policy here opens the last."""
VXLAN = 4789
CORE = str(topology.core_address().ip)
"""Address of the core's namespace, and so of the operator."""
MANAGEMENT_CORE = "10.200.0.1"
UNDERLAY, MANAGEMENT = CORE, MANAGEMENT_CORE
"""The ways to the broker, and to where hosts join."""
AMQP = 5672
AGENT = Path(sys.executable).with_name("cnsmo-agent")
MANAGE = Path(sys.executable).with_name("cnsmo-manage")
PROBE = (sys.executable, "-I", "-S", probe.__file__)
SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class Said:
    """What a command left behind."""

    code: int
    out: str
    err: str


class Site:
    """Up while its context lasts."""

    operator: OperatorClient
    watch: Program
    """``cnsmo-manage watch``, which prints what happens as JSON."""
    join_port: int
    """TCP port at which hosts join."""

    def __init__(self, directory: Path, vhost: Vhost) -> None:
        self._directory = directory
        self._vhost = vhost
        self._way = ""
        self._heard = 0
        self._agents: dict[str, Inside] = {}
        self._listeners: dict[str, contextlib.ExitStack] = {}
        self._plugging = threading.Lock()
        """Whoever unplugs a VM looks at the others, too."""
        self.lab = Lab(directory / f"l{secrets.token_hex(3)}")

    def __enter__(self) -> Self:
        self._stack = contextlib.ExitStack()
        try:
            self._raise()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()

    def call_by(self, way: str) -> None:
        """See to it that all agents run, and call the core by that way."""
        if way != self._way:
            self._way = way
            each(self.kill_agent)
        each(self.start_agent)

    def start_agent(self, host: str) -> None:
        """Start the agent of a VM, as its systemd would; nothing when it runs."""
        if host not in self._agents:
            config = str(self._agent_config(host))
            self._agents[host] = Inside(
                self.lab.vm(host), str(AGENT), "--config-file", config, log=self._log(host)
            )

    def kill_agent(self, host: str) -> None:
        """kill -9; what the agent has started goes on without it."""
        agent = self._agents.pop(host, None)
        if agent is not None:
            os.kill(agent.pid, signal.SIGKILL)
            agent.wait(SECONDS)

    def reboot(self, host: str) -> None:
        """Power a VM off and on, without its agent: its firewall, its own network, its daemons."""
        agent, listener = self._agents.pop(host), self._listeners.pop(host)
        vm = self.lab.vm(host)
        with self._plugging:
            vm.reboot()
        agent.wait(SECONDS)
        listener.close()
        self._furnish(vm)

    def apply(self, policy: str) -> int:
        """Apply a policy; returns at once.

        :return: the revision.
        """
        plan = self.operator.apply(document(policy))
        assert plan.revision is not None
        return plan.revision

    def apply_and_wait(self, policy: str) -> Said:
        """What the operator is told who applies a policy and waits what comes of it."""
        path = self._directory / "shop.yaml"
        path.write_text(document(policy))
        return self.manage("apply", str(path), "--wait", f"{SECONDS:g}s")

    def manage(self, *words: str) -> Said:
        """Run cnsmo-manage."""
        done = subprocess.run(
            [MANAGE, "--config-file", self._operator_config, *words],
            capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"},
        )  # fmt: skip
        return Said(done.returncode, done.stdout, done.stderr)

    def firewalls(self) -> dict[str, AgentStatus]:
        """The firewalls' agents, by host."""
        return {
            host.name: agent
            for host in self.operator.host_list(DEPLOYMENT)
            for agent in host.agents
            if agent.service == "firewall"
        }

    def rules(self) -> dict[str, str]:
        """What is in force in the kernels, by host, without counts."""
        return dict(zip(HOSTS, each(self._rules), strict=True))

    def door(self, host: str, port: int) -> Door:
        """A port of a VM, as the operator calls it."""
        return str(self.lab.vm(host).seat.address.ip), port

    def answers(self, port: int, since: float, until: float) -> set[str]:
        """All that came of the operator's knocking at that port of any VM in that time."""
        doors = [self.door(host, port) for host in HOSTS]
        return set().union(*(self.doors.answers(door, since, until) for door in doors))

    def gap(self, host: str, since: float) -> Gap | None:
        """While the app of a host was shut, which the good policy opens and the others do not."""
        return self.doors.gap(self.door(host, APP), since)

    def ask(self, asker: str, host: str, port: int) -> str:
        """What becomes of another VM's call: open, refused or silent."""
        return self.calls(asker, self.door(host, port)[0], port)

    def calls(self, asker: str, address: str, port: int) -> str:
        """What becomes of a VM's call to an address."""
        system = self.lab.vm(asker).system()
        return system.run(*PROBE, "tcp", address, str(port)).stdout.strip()

    def forget_events(self) -> None:
        """What ``cnsmo-manage watch`` has printed so far does not count any more."""
        self._heard = len(self.watch.said)

    def events(self, kind: str) -> dict[str, str]:
        """What ``cnsmo-manage watch`` printed of that type since: the last message, by host."""
        lines = self.watch.said[self._heard :].splitlines()
        told = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return {it["host"]: it["message"] for it in told if it["type"] == kind}

    def until(self, look: Callable[[], Any], what: str, timeout: float = SECONDS) -> Any:
        """Wait for it; when it does not come, show how things stand."""
        try:
            return eventually(look, timeout, what)
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n{self.firewalls()}\n{self.logs()}") from None

    def logs(self) -> str:
        """The ends of the agents' logs."""
        return "\n".join(f"--- {host}\n{tail(self._log(host))}" for host in HOSTS)

    def _raise(self) -> None:
        stack = self._stack
        stack.callback(self.lab.down)
        vms = tuple(VmSpec(host, "east", ("web",)) for host in HOSTS)
        self.lab.up(Topology(vms, ("east",), core=True))
        namespace = NETNS / self.lab.network.namespace(topology.CORE)
        self.join_port = stack.enter_context(PortLease()).port
        for port, target in ((AMQP, self._vhost.port), (self.join_port, self.join_port)):
            relay = ("relay", str(namespace), "0.0.0.0", str(port), str(target))
            stack.enter_context(Child(*relay, log=self._directory / f"relay-{port}.log"))
        self._start_core()
        self._lay_management()
        for vm in self.lab.vms():
            self._furnish(vm)
        stack.callback(lambda: [listener.close() for listener in self._listeners.values()])
        doors = [self.door(host, port) for host in HOSTS for port in (SSH, APP, CLOSED)]
        log = self._directory / "doors.log"
        self.doors = stack.enter_context(Doors(self.lab.core(), doors, log))
        stack.callback(each, self.kill_agent)

    def _start_core(self) -> None:
        database = f"sqlite:///{self._directory}/state.sqlite"
        engine = engine_for(database)
        schema.upgrade(engine)
        engine.dispose()
        vault = Vault(self._directory / "secrets.json")
        vault.create()
        url = self._vhost.transport_url
        self._operator_config = self._directory / "cnsmo.conf"
        joining, self._door = door_config(self._directory / "ca", self.join_port)
        self._operator_config.write_text(
            f"[bus]\nurl = {url}\nshared_account = true\n"
            f"[database]\nconnection = {database}\n{joining}"
            f"[secrets]\nkey_file = {vault.path}\n"
        )
        self._program("cnsmo.cmd.core").says("core answers")
        CONF.set_override("url", url, "bus")
        self._stack.callback(transport.close)
        self.operator = OperatorClient(CONF)
        self.operator.deployment_create(DEPLOYMENT)
        self.watch = self._program("cnsmo.cmd.manage", "watch", "-d", DEPLOYMENT, "-f", "json")

    def _program(self, module: str, *words: str) -> Program:
        log = self._directory / f"{module}.log"
        program = Program(module, ["--config-file", str(self._operator_config), *words], log)
        self._stack.callback(program.kill)
        return program

    def _lay_management(self) -> None:
        """The core's side of the management network."""
        addresses = [vm.seat.address.ip for vm in self.lab.vms()]
        floods = "bridge fdb append 00:00:00:00:00:00 dev mgmt dst {}".format
        _sh(self.lab.core().enter, *_vxlan(1), *map(floods, addresses))

    def _furnish(self, vm: Vm) -> None:
        """What a VM has besides its firewall and its agent: a management network, daemons."""
        _sh(vm.enter, *_vxlan(vm.seat.number, f"remote {CORE}"))
        stack = self._listeners[vm.name] = contextlib.ExitStack()
        log = self._directory / f"{vm.name}-listener.log"
        stack.enter_context(listening(vm, (SSH, APP, CLOSED), log))

    def _agent_config(self, host: str) -> Path:
        place = self._directory / host
        place.mkdir(exist_ok=True)
        vm = self.lab.vm(host)
        if not (place / "token").exists():
            request = TokenRequest(groups=["web"])
            (place / "token").write_text(str(self.operator.token_create(DEPLOYMENT, request).token))
        way = f"{self._way}:{AMQP}"
        url = self._vhost.transport_url.replace(f"127.0.0.1:{self._vhost.port}", way)
        join_url = f"https://{self._way}:{self.join_port}"
        path = place / "cnsmo.conf"
        path.write_text(
            f"[bus]\nurl = {url}\n"
            f"[agent]\nstate_dir = {vm.disk}/agent\ntoken_file = {place}/token\n"
            f"{dataclasses.replace(self._door, join_url=join_url).config()}"
            f"[host]\nname = {host}\n"
        )
        return path

    def _rules(self, host: str) -> str:
        system = self.lab.vm(host).system()
        listed = system.run("nft", "-s", "list", "table", "inet", "cnsmo").stdout
        return listing.plain(listed, listing.slot(listed))

    def _log(self, host: str) -> Path:
        return self._directory / f"{host}.log"


def each(work: Callable[[str], Any]) -> list[Any]:
    """Do it for all hosts side by side."""
    with ThreadPoolExecutor(len(HOSTS)) as pool:
        return list(pool.map(work, HOSTS))


def document(policy: str) -> str:
    """The deployment's document, with a policy as a YAML mapping."""
    return f"deployment: {DEPLOYMENT}\nfirewall:\n  perimeter:\n{policy}"


def _vxlan(number: int, far: str = "") -> Iterable[str]:
    hardware = f"02:00:00:c8:00:{number:02x}"
    return (
        f"ip link add mgmt address {hardware} type vxlan id 42 dstport {VXLAN} dev eth0 {far}",
        f"ip addr add 10.200.0.{number}/24 dev mgmt",
        "ip link set mgmt up",
    )


def _sh(enter: tuple[str, ...], *commands: str) -> None:
    for command in commands:
        subprocess.run([*enter, *command.split()], check=True, capture_output=True)
