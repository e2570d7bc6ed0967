# SPDX-License-Identifier: Apache-2.0
"""A core and its agents as real processes, over a real broker and a real database.

Agents use the driver ``noop``, so that nothing here needs a network namespace.
"""

import dataclasses
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Self

from oslo_config import cfg

from cnsmo.bus import transport
from cnsmo.bus.clients import OperatorClient
from cnsmo.bus.events import Watch
from cnsmo.model.errors import NotFound, Unavailable
from cnsmo.model.lifecycle import State
from cnsmo.model.messages import AgentStatus, EventMessage, Plan, TokenRequest
from cnsmo.state.vault import Vault
from tests.beds import Vhost
from tests.beds.process import ServerProcess, tail
from tests.eventually import eventually
from tests.joining import Door

SHOP = "deployment: shop\nvpn:\n  backbone: {cidr: 10.66.0.0/16, driver: noop}\n"
PLUGIN = Path(__file__).parents[1] / "sample_plugin"
"""On PYTHONPATH, it is installed."""
PATIENCE = 40.0
"""Seconds after which something that should happen is said not to; the machine may be busy."""
RABBIT = "oslo_messaging_rabbit"
BRISK: Mapping[str, Mapping[str, object]] = {
    "core": {"hint_interval": 0.01, "down_after": 600, "health_interval": 600},
    "agent": {"heartbeat": 60, "resync": 600, "rpc_timeout": 10, "retry_max": 1},
    RABBIT: {"rabbit_interval_max": 1},
}
"""Nothing happens by the clock, so that a test sees what its own fault brought about."""


class Program:
    """One of our programs, running; its output is in ``log``."""

    def __init__(
        self, module: str, arguments: list[str], log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.log = log
        self.command = [sys.executable, "-m", module, *arguments]
        self.env = {**os.environ, **(env or {})}
        self.start()

    def start(self) -> Self:
        """Start it (again); its log begins anew."""
        self.log.unlink(missing_ok=True)
        self.process = ServerProcess(self.command, log=self.log, env=self.env)
        return self

    @property
    def said(self) -> str:
        """All output so far."""
        return self.log.read_text() if self.log.exists() else ""

    def says(self, text: str, timeout: float = PATIENCE) -> Self:
        """Wait until its output has that text."""
        try:
            eventually(lambda: text in self.said, timeout, f"{text!r} from {self.log.name}")
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n{self.said}") from None
        return self

    def kill(self) -> None:
        """kill -9, of all its processes at once."""
        self.process.kill()

    def stop(self, timeout: float = PATIENCE) -> int:
        """SIGTERM; returns its exit code, 137 when it had to be killed."""
        self.process.stop(signal.SIGTERM, timeout)
        return self.process.wait(0)

    def ends(self, timeout: float = PATIENCE) -> int:
        """Wait for its end; returns its exit code."""
        return self.process.wait(timeout)


class Agent(Program):
    """A cnsmo-agent, with its host's name and state."""

    def __init__(
        self, host: str, state_dir: Path, arguments: list[str], log: Path, env: Mapping[str, str]
    ) -> None:
        self.host = host
        self.state_dir = state_dir
        super().__init__("cnsmo.cmd.agent", arguments, log, env)

    @property
    def remembered(self) -> Path:
        """The file in which the driver ``noop`` keeps what it was told for the VPN backbone."""
        return self.state_dir / "units" / "vpn" / "backbone" / "noop" / "desired.json"

    @property
    def peers(self) -> set[str]:
        """Names of the hosts that the driver was told to be its peers."""
        try:
            return {peer["host"] for peer in json.loads(self.remembered.read_text())["peers"]}
        except FileNotFoundError:
            return set()


class Fleet:
    """The processes of one test. ``operator`` and ``watch`` speak to them over the same broker."""

    def __init__(
        self,
        directory: Path,
        vhost: Vhost,
        database: str,
        conf: cfg.ConfigOpts,
        door: Door,
        url: str = "",
    ) -> None:
        """url: where the virtual host is, if not at one broker."""
        url = url or vhost.transport_url
        self.directory = directory
        self.vhost = vhost
        self.database = database
        self.door = door
        self.conf = conf
        self.vault = Vault(Path(conf.secrets.key_file))
        self.settings: dict[str, Mapping[str, object]] = {
            "database": {"connection": database},
            "bus": {"url": url, "shared_account": True},
            **BRISK,
            "agent": {**BRISK["agent"], **dataclasses.asdict(door)},
            "join": {
                "listen": "127.0.0.1",
                "port": conf.join.port,
                "burst": 10000,
                "ca_directory": conf.join.ca_directory,
            },
            "secrets": {"key_file": conf.secrets.key_file},
        }
        """What all programs are configured with, by group."""
        self.core_settings: dict[str, Mapping[str, object]] = {}
        """What cores alone are configured with."""
        self.env: dict[str, str] = {}
        """What all programs find in their environment besides the test's own."""
        self.programs: list[Program] = []
        self.cores: list[Program] = []
        conf.set_override("url", url, "bus")
        self.operator = OperatorClient(conf, timeout=10)
        for name, value in BRISK[RABBIT].items():
            conf.set_override(name, value, RABBIT)

    def core(self, name: str = "core", **options: object) -> Program:
        """A core process; it lets hosts join unless another one does so already."""
        door = {"listen": ""} if any(it.process.alive for it in self.cores) else {}
        joining = {**self.core_settings.get("join", {}), **door}
        mine = {**self.core_settings, "core": options, "join": joining}
        config = self._config(name, mine)
        core = Program(
            "cnsmo.cmd.core",
            ["--config-file", str(config)],
            self.directory / f"{name}.log",
            self.env,
        )
        self.programs.append(core)
        self.cores.append(core)
        return core

    def agent(
        self,
        host: str,
        *arguments: str,
        token: str | None = None,
        env: Mapping[str, str] | None = None,
        state_dir: Path | None = None,
        **options: object,
    ) -> Agent:
        """An agent process of a host; it joins with ``token``, else with one that is made now."""
        state = state_dir or self.directory / f"{host}.state"
        name = f"{host}{''.join(arguments)}-{len(self.programs)}"
        secret = self.directory / f"{name}.token"
        secret.write_text(self.token() if token is None else token)
        number = sum(host.encode()) % 200 + 1
        config = self._config(
            name,
            {
                "agent": {"state_dir": state, "token_file": secret, **options},
                "host": {"name": host, "private_addresses": f"192.168.7.{number}/24"},
            },
        )
        agent = Agent(
            host,
            state,
            ["--config-file", str(config), *arguments],
            self.directory / f"{name}.log",
            self.env | dict(env or {}),
        )
        self.programs.append(agent)
        return agent

    def token(self, groups: tuple[str, ...] = ("web",), uses: int = 1, lifetime: int = 600) -> str:
        """A join token of the shop."""
        request = TokenRequest(groups=list(groups), uses=uses, lifetime=lifetime)
        return str(self.operator.token_create("shop", request).token)

    def apply(self, document: str = SHOP) -> Plan:
        """Apply a document."""
        return self.operator.apply(document)

    def insist(self, document: str) -> Plan:
        """Apply a document, again and again while nobody answers."""

        def attempt() -> Plan | None:
            try:
                return self.operator.apply(document)
            except Unavailable:
                return None

        done: Plan = self.until(attempt, "an answer")
        return done

    def agents(self, service: str = "vpn") -> dict[str, AgentStatus]:
        """The shop's agents of a service by host; empty while nobody answers, or without a shop."""
        return {agent.host: agent for agent in self._all_agents() if agent.service == service}

    def _all_agents(self) -> list[AgentStatus]:
        try:
            hosts = self.operator.host_list("shop")
        except (NotFound, Unavailable):
            return []
        return [agent for host in hosts for agent in host.agents]

    def until_ready(
        self,
        *hosts: str,
        revision: int = 0,
        timeout: float = PATIENCE,
        services: Collection[str] = ("vpn",),
    ) -> None:
        """Wait until these services of these hosts are ready, and have applied that revision."""

        def look() -> bool:
            found = {(agent.host, agent.service): agent for agent in self._all_agents()}
            wanted = [found.get((host, service)) for host in hosts for service in services]
            return all(
                agent is not None
                and agent.state is State.READY
                and agent.applied_revision >= revision
                for agent in wanted
            )

        self.until(look, f"{hosts} ready at {revision}", timeout)

    def until(self, look: Callable[[], Any], what: str, timeout: float = PATIENCE) -> Any:
        """Wait for it; when it does not come, show all logs."""
        try:
            return eventually(look, timeout, what)
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n{self.agents()}\n{self.logs()}") from None

    def logs(self) -> str:
        """The ends of all logs."""
        return "\n".join(f"--- {p.log.name}\n{tail(p.log, 30)}" for p in self.programs)

    def close(self) -> None:
        """End everything."""
        transport.close()
        for program in self.programs:
            program.kill()
        for name in BRISK[RABBIT]:
            self.conf.clear_override(name, RABBIT)

    def _config(self, name: str, settings: Mapping[str, Mapping[str, object]]) -> Path:
        merged = {group: dict(options) for group, options in self.settings.items()}
        for group, options in settings.items():
            merged.setdefault(group, {}).update(options)
        path = self.directory / f"{name}.conf"
        path.touch(mode=0o600)
        path.write_text(
            "".join(
                f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in options.items())
                for group, options in merged.items()
            )
        )
        return path


def awaited(
    watch: Watch, wanted: Callable[[EventMessage], bool], timeout: float = PATIENCE
) -> EventMessage:
    """The next event that is as wanted."""
    deadline = time.monotonic() + timeout
    seen = []
    while (left := deadline - time.monotonic()) > 0:
        event = watch.next(left)
        if event is not None and wanted(event):
            return event
        seen.append(event)
    raise AssertionError(f"no such event within {timeout:g} s, but {seen}")
