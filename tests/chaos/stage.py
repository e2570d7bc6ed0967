# SPDX-License-Identifier: Apache-2.0
"""The stage: VMs at sites behind a router, an agent in each; broker, database and cores for real.

Broker, database and cores listen on this machine's loopback. VMs reach the broker, and the port at
which hosts join, only through relays in the lab's core namespace: whoever is cut from that is cut
from the cores' side. Each VM keeps its agent's state on a small disk of its own.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import random
import re
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

from oslo_config import cfg

from benchmarks.child import Child
from cnsmo.agent.system import ENVIRONMENT
from cnsmo.bus import transport
from cnsmo.bus.brokers.rabbitmq_api import ManagementApi
from cnsmo.bus.clients import OperatorClient
from cnsmo.files import write_file
from cnsmo.lab import topology
from cnsmo.lab.lab import Lab
from cnsmo.lab.network import NETNS
from cnsmo.lab.topology import Topology, VmSpec
from cnsmo.lab.vm import Vm
from cnsmo.model.errors import CnsmoError
from cnsmo.model.lifecycle import State
from cnsmo.model.messages import AgentStatus, TokenRequest
from cnsmo.state import schema
from cnsmo.state.engine import engine_for
from cnsmo.state.vault import Vault
from cnsmo.trust import authority
from tests.beds import PostgresqlBed, TlsRabbitmqBed
from tests.beds.ports import PortLease
from tests.beds.process import tail
from tests.beds.rabbitmq_tls import MANAGER
from tests.chaos.cast import CORES, DEPLOYMENT, VPN
from tests.chaos.services import Service
from tests.chaos.traffic import Traffic
from tests.eventually import eventually
from tests.integration.fleet import RABBIT
from tests.joining import Door, door_config

CORE = str(topology.core_address().ip)
AMQP = 5671
AGENT = Path(sys.executable).with_name("cnsmo-agent")
DISK = "size=16m,mode=0700"
"""Of a VM, for its agent's state: tmpfs(5)."""
FAKETIME = "usr/lib/*/faketime/libfaketimeMT.so.1"
UP_SECONDS = 240.0
AGENT_OPTIONS = {"heartbeat": 5, "resync": 5, "rpc_timeout": 10, "retry_max": 5}
FELL = re.compile(r"fell \d+ times or more within \d+ s: it serves only while no other is well$")
Settings = Mapping[str, Mapping[str, object]]


class Stage:
    """Up while its context lasts."""

    def __init__(self, vms: tuple[VmSpec, ...], directory: Path, conf: cfg.ConfigOpts) -> None:
        """conf: of this process, which is the operators'."""
        self.specs = vms
        self.directory = directory
        self.conf = conf
        self.lab = Lab(directory / f"c{secrets.token_hex(3)}")
        self.agents: dict[str, Service] = {}
        self.cores: dict[str, Service] = {}
        self.clock: dict[str, int] = {}
        """Hours by which the clock of a VM's agent is wrong."""
        self.begin = time.monotonic()
        self.traffic = Traffic(self.begin, directory)
        self._plugging = threading.Lock()
        self._stack = contextlib.ExitStack()

    @property
    def now(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.begin

    def __enter__(self) -> Self:
        try:
            self._raise()
        except BaseException as exc:
            told = self.logs(it.name for it in self.specs) if self.agents else ""
            self._stack.close()
            raise AssertionError(f"the stage does not come up: {exc!r}\n{told}") from exc
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()

    def operator(self, timeout: float = 10.0) -> OperatorClient:
        """Another operator; timeout in seconds."""
        return OperatorClient(self.conf, timeout)

    def disk(self, name: str) -> Path:
        """A VM's own disk, under the same path inside and outside."""
        return self.directory / "disks" / name

    def replica(self, name: str) -> Path:
        """The file with a VM's copy of the state."""
        return self.disk(name) / "replica-all.json"

    def furnish(self, vm: Vm) -> None:
        """What a VM that has booted starts: its servers and probes, its agent."""
        self.traffic.start(vm)
        self.agents[vm.name].start()

    def reboot(self, name: str) -> None:
        """Power a VM off and on; only its disk survives."""
        vm, agent = self.lab.vm(name), self.agents[name]
        agent.let_go()
        with self._plugging:  # whoever unplugs a VM looks at the others, too
            vm.stop()
            assert agent.join(), f"the agent of {name} outlives its VM"
            vm.start()
        self.furnish(vm)

    def logs(self, names: Iterable[str], lines: int = 40) -> str:
        """The ends of the logs of VMs, of cores, of the broker and the database."""
        found = [self.directory / f"{name}{end}.log" for name in names for end in ("", "-prober")]
        found += [self.directory / f"{name}.log" for name in CORES]
        found += [self.broker.log, self.database.log]
        return "\n".join(f"--- {log.name}\n{tail(log, lines)}" for log in found if log.exists())

    def behind(self, revision: int) -> dict[str, str]:
        """Agents that are not ready at that revision, and what they say; raises CnsmoError."""
        agents = [it for host in self.operator().host_list(DEPLOYMENT) for it in host.agents]
        missing = {it.name for it in self.specs} - {it.host for it in agents}
        return dict.fromkeys(sorted(missing), "is not there") | {
            f"{it.host}: {it.service}": f"{it.state} at {it.applied_revision}: {it.reason}"
            for it in agents
            if it.applied_revision < revision or not _well(it)
        }

    def until_ready(self, revision: int, timeout: float) -> None:
        """Wait until all agents are ready at that revision."""
        state: dict[str, str] = {}

        def look() -> bool:
            state.clear()
            with contextlib.suppress(CnsmoError):
                state.update(self.behind(revision))
                return not state
            return False

        try:
            eventually(look, timeout, f"all are ready at {revision}", every=0.5)
        except AssertionError as exc:
            raise AssertionError(f"{exc}: {state}") from None

    def addresses(self) -> tuple[dict[str, str], dict[str, str]]:
        """The VMs' addresses in the VPN, and those at their sites that others can call."""
        rows = self.operator().member_list(DEPLOYMENT, "vpn", VPN)
        inner = {host: str(row.body["addresses"][0]) for host, row in rows.items()}
        outer = {it.name: str(it.address.ip) for it in self.lab.plan.seats if not it.spec.nat}
        return inner, outer

    def _raise(self) -> None:
        stack = self._stack
        ca = self.directory / "ca"
        lease = stack.enter_context(PortLease())
        joining, door = door_config(ca, lease.port)
        hosts = authority.load(ca).bundle(datetime.datetime.now(datetime.UTC))
        self.database = stack.enter_context(PostgresqlBed())
        self.broker = stack.enter_context(TlsRabbitmqBed(trusted=hosts, addresses=(CORE,)))
        self._start_cores(joining)
        self._raise_lab(lease.port)
        for spec in self.specs:
            self._place(spec, at_core(door, lease.port))
        stack.callback(self._end_agents)
        stack.callback(self.traffic.close)
        for vm in self.lab.vms():
            self.furnish(vm)
        client = self.operator(30.0)
        eventually(lambda: len(client.host_list(DEPLOYMENT)) == len(self.specs), UP_SECONDS,
                   "all hosts have joined", every=0.5)  # fmt: skip

    def _raise_lab(self, join_port: int) -> None:
        sites = tuple(dict.fromkeys(it.site for it in self.specs))
        for spec in self.specs:
            disk = self.disk(spec.name)
            disk.mkdir(parents=True)
            mount = ("mount", "-t", "tmpfs", "-o", DISK, "none", str(disk))
            subprocess.run(mount, check=True)
            self._stack.callback(subprocess.run, ["umount", "--lazy", str(disk)], check=True)
        self._stack.callback(self.lab.down)
        self.lab.up(Topology(self.specs, sites, core=True))
        for vm in self.lab.vms():  # where a VM that boots finds its firewall
            (vm.disk / "agent").symlink_to(self.disk(vm.name))
        namespace = str(NETNS / self.lab.network.namespace(topology.CORE))
        for port, target in ((AMQP, self.broker.tls_port), (join_port, join_port)):
            words = ("relay", namespace, "0.0.0.0", str(port), str(target))
            self._stack.enter_context(Child(*words, log=self.directory / f"relay-{port}.log"))

    def _start_cores(self, joining: str) -> None:
        self.agents_vhost = f"agents-{secrets.token_hex(4)}"
        self._vhost = self.broker.create_vhost()
        bundle = str(self.broker.authority.bundle)
        self.api = ManagementApi(self.broker.management_url, MANAGER, self.broker.password, bundle)
        url = self.database.url(self.database.create_database())
        engine = engine_for(url)
        schema.upgrade(engine)
        engine.dispose()
        vault = Vault(self.directory / "chaos-secrets.json")
        vault.create()
        settings = self._core_settings(url, bundle, str(vault.path))
        for number, name in enumerate(CORES):
            door = "" if number == 0 else "[join]\nlisten =\n"
            path = self.directory / f"{name}.conf"
            write_file(path, written(settings) + (door or joining) + self._ca(door))
            words = [sys.executable, "-m", "cnsmo.cmd.core", "--config-file", str(path)]
            log = self.directory / f"{name}.log"
            self.cores[name] = Service(name, lambda words=words: (words, os.environ), log)
            self._stack.callback(self.cores[name].end)
            self.cores[name].start()
        self._connect(settings)

    def _ca(self, door: str) -> str:
        return f"ca_directory = {self.directory}/ca\n" if door else ""

    def _core_settings(self, database: str, bundle: str, vault: str) -> Settings:
        key = self.directory / "broker.key"
        write_file(key, secrets.token_hex(32))
        account = f"{self._vhost.user}:{self._vhost.password}"
        place = f"127.0.0.1:{self.broker.tls_port}"
        return {
            "bus": {
                "url": f"rabbit://{account}@{place}/{self._vhost.name}?ssl=true",
                "broker": "rabbitmq",
                "agents_url": f"rabbit://{CORE}:{AMQP}/{self.agents_vhost}?ssl=true",
                "cores_url": f"rabbit://{place}/{self.agents_vhost}?ssl=true",
                "agents_login": "certificate",
                "agents_ca_file": bundle,
                "key_file": key,
                "management_url": self.broker.management_url,
                "management_user": MANAGER,
                "management_password": self.broker.password,
                "management_ca_file": bundle,
            },
            "database": {"connection": database},
            "secrets": {"key_file": vault},
            RABBIT: {
                "rabbit_interval_max": 2,
                "ssl_ca_file": bundle,
                "ssl_cert_file": self.broker.client.certificate,
                "ssl_key_file": self.broker.client.key,
            },
        }

    def _connect(self, settings: Settings) -> None:
        self.conf.set_override("url", settings["bus"]["url"], "bus")
        transport.check(self.conf)  # which knows the options of the group below
        for name, value in settings[RABBIT].items():
            kept = value if isinstance(value, int) else str(value)
            self.conf.set_override(name, kept, RABBIT)
            self._stack.callback(self.conf.clear_override, name, RABBIT)
        self._stack.callback(transport.close)
        client = self.operator(30.0)

        def made() -> bool:
            with contextlib.suppress(CnsmoError):
                return bool(client.deployment_create(DEPLOYMENT))
            return False

        eventually(made, UP_SECONDS, "a core answers", every=0.2)

    def _place(self, spec: VmSpec, door: Door) -> None:
        """An agent's configuration, and how it is started."""
        seat, name = self.lab.plan.seat(spec.name), spec.name
        request = TokenRequest(groups=list(spec.groups))
        token = self.directory / f"{name}.token"
        write_file(token, str(self.operator().token_create(DEPLOYMENT, request).token))
        public = "" if spec.nat else str(seat.address.ip)
        settings: Settings = {
            "agent": {"state_dir": self.disk(name), "token_file": token, **AGENT_OPTIONS,
                      "join_url": door.join_url, "ca_fingerprint": door.ca_fingerprint},
            "host": {"name": name, "site": spec.site, "behind_nat": spec.nat,
                     "public_addresses": public},
            RABBIT: {"rabbit_interval_max": 2},
        }  # fmt: skip
        path = self.directory / f"{name}.conf"
        write_file(path, written(settings))
        log = self.directory / f"{name}.log"
        self.agents[name] = Service(name, self._agent_command(name, path), log, inside=True)

    def _agent_command(
        self, name: str, config: Path
    ) -> Callable[[], tuple[list[str], Mapping[str, str]]]:
        def command() -> tuple[list[str], Mapping[str, str]]:
            env = dict(ENVIRONMENT)
            if hours := self.clock.get(name, 0):
                env |= {
                    "LD_PRELOAD": faketime() or "",
                    "FAKETIME": f"{hours:+d}h",
                    "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                }
            enter = self.lab.vm(name).enter
            words = [f"{key}={value}" for key, value in env.items()]
            return [*enter, "env", *words, str(AGENT), "--config-file", str(config)], ENVIRONMENT

        return command

    def _end_agents(self) -> None:
        for agent in self.agents.values():
            agent.let_go()
        each(self.agents, lambda name: self.agents[name].end())


def _well(agent: AgentStatus) -> bool:
    """Whether it has nothing to complain of but how often a server was away in the last minutes."""
    remembers = all(FELL.search(part) for part in agent.reason.split("; "))
    return agent.state is State.READY or (agent.state is State.DEGRADED and remembers)


def at_core(door: Door, port: int) -> Door:
    """The door as VMs find it."""
    return Door(f"https://{CORE}:{port}", door.ca_fingerprint)


def faketime() -> str | None:
    """The library that lies about the time; None where it is not installed."""
    return next((str(it) for it in Path("/").glob(FAKETIME)), None)


def written(settings: Settings) -> str:
    """As a configuration file."""
    return "".join(
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in options.items())
        for group, options in settings.items()
    )


def each(names: Iterable[str], work: Callable[[str], Any]) -> dict[str, Any]:
    """Do it for all of them, some side by side."""
    names = list(names)
    with ThreadPoolExecutor(6) as pool:
        return dict(zip(names, pool.map(work, names), strict=True))


def chance(seed: int, name: str) -> random.Random:
    """Chance of somebody's own, told by the seed."""
    return random.Random(f"{seed} {name}")
