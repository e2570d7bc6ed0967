# SPDX-License-Identifier: Apache-2.0
"""The lab's hub: one process with a core and the agents of all VMs, on the in-process bus.

Its agents act inside the VMs and keep their state on the VMs' disks, so that the hub may be
killed: tunnels stay, and the next hub carries on. Commands reach it through a socket in the lab's
directory.
"""

from __future__ import annotations

import datetime
import os
import socket
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

from oslo_config import cfg
from oslo_log import log

from cnsmo.agent.identity import StateDir
from cnsmo.agent.process import AgentProcess
from cnsmo.agent.settings import Settings
from cnsmo.agent.system import LocalSystem
from cnsmo.bus.clients import OperatorClient
from cnsmo.core.server import CoreServer
from cnsmo.lab.lab import Lab
from cnsmo.lab.vm import Vm
from cnsmo.model.errors import CnsmoError, Conflict, NotFound
from cnsmo.model.messages import TokenRequest
from cnsmo.services import registry
from cnsmo.state import schema
from cnsmo.state.engine import make_engine
from cnsmo.state.vault import Vault, vault_of
from cnsmo.trust import authority
from cnsmo.trust.authority import Authority

LOG = log.getLogger(__name__)
SOCKET = "hub.sock"
DEPLOYMENT = "lab"
HEARTBEAT = 2.0
"""Seconds; shorter than in the field, so that a person sees it."""
RESYNC = 10.0

Sink = Callable[[str], None]
Caller = tuple[str, Path, dict[str, str]]
"""Who runs a command: its standard input, its directory, its environment."""
Run = Callable[[Sequence[str], Caller, Sink, Sink], int]
"""Runs a command of cnsmo-manage: arguments, for whom, sinks of output and errors."""


class Hub:
    """A core, and an agent for each VM of a lab."""

    def __init__(self, lab: Lab, conf: cfg.ConfigOpts, run: Run) -> None:
        self._lab = lab
        self._conf = conf
        self._run = run
        self._agents: dict[str, tuple[AgentProcess, threading.Thread]] = {}
        self._done = threading.Event()

    def serve(self, ready: Callable[[], None]) -> None:
        """Work until told to stop; ready is called when commands are answered."""
        engine = make_engine(self._conf)
        schema.upgrade(engine)
        _key(vault_of(self._conf))
        core = CoreServer(self._conf, engine)
        fingerprint = _authority(Path(self._conf.join.ca_directory)).fingerprint
        core.start()
        self._door = (f"https://127.0.0.1:{core.join_port}", fingerprint)
        self._client = OperatorClient(self._conf)
        if not self._client.deployment_list():
            self._client.deployment_create(DEPLOYMENT)
        for vm in self._lab.vms():
            if vm.is_running and _joined(vm):
                self.start_agent(vm.name)
        listener = Listener(address(self._lab.directory), "AF_UNIX", backlog=16)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        ready()
        self._done.wait()
        listener.close()
        for agent, _thread in self._agents.values():
            agent.stop()  # all at once: each takes a second to end
        for name in list(self._agents):
            self.stop_agent(name)
        core.stop()

    def stop(self) -> None:
        """End serve(), from any thread."""
        self._done.set()

    def start_agent(self, name: str) -> None:
        """Start the agent of a VM; one that has not joined gets a token for its groups."""
        if name in self._agents:
            raise Conflict(f"the agent of {name} runs already")
        vm = self._lab.vm(name)
        token = None
        if not _joined(vm):
            request = TokenRequest(groups=list(vm.seat.spec.groups))
            token = self._client.token_create(DEPLOYMENT, request).token
        agent = AgentProcess(self._conf, settings(vm, token, *self._door))
        thread = threading.Thread(target=self._live, args=(name, agent), name=name, daemon=True)
        self._agents[name] = (agent, thread)
        thread.start()

    def stop_agent(self, name: str) -> None:
        """Stop the agent of a VM; what it brought in force stays."""
        if name in self._agents:
            agent, thread = self._agents.pop(name)
            agent.stop()
            thread.join()

    def _live(self, name: str, agent: AgentProcess) -> None:
        try:
            agent.run()
        except CnsmoError as exc:
            LOG.error("agent of %s: %s", name, exc)

    def _accept(self, listener: Listener) -> None:
        while not self._done.is_set():
            try:
                connection = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: Connection[Any, Any]) -> None:
        """One request: a verb, arguments, and the caller; answers ``(stream, text)``."""
        with connection:
            try:
                verb, arguments, stdin, directory, env = connection.recv()
                caller = (stdin, Path(directory), env)
                code = self._obey(verb, arguments, caller, connection)
            except (EOFError, BrokenPipeError):
                return
            except CnsmoError as exc:
                connection.send(("err", f"{exc}\n"))
                code = exc.exit_code
            except Exception as exc:
                LOG.exception("%s %s", verb, arguments)
                connection.send(("err", f"unforeseen {type(exc).__name__}: {exc}\n"))
                code = 1
            connection.send(("end", code))

    def _obey(
        self,
        verb: str,
        arguments: list[str],
        caller: Caller,
        connection: Connection[Any, Any],
    ) -> int:
        match verb:
            case "manage":
                return self._run(
                    arguments,
                    caller,
                    lambda text: connection.send(("out", text)),
                    lambda text: connection.send(("err", text)),
                )
            case "agent-start":
                self.start_agent(*arguments)
            case "agent-stop":
                self.stop_agent(*arguments)
            case "stop":
                self.stop()
        return 0


def settings(
    vm: Vm, token: str | None = None, join_url: str = "", ca_fingerprint: str = ""
) -> Settings:
    """How the agent of a VM works: outside of it, inside its namespaces, on its disk."""
    return Settings(
        state_dir=StateDir(vm.disk / "agent", "all"),
        host=vm.name,
        services=tuple(registry.services()),
        system=LocalSystem(vm.enter, stays=True),
        facts=vm.seat.facts,
        token=lambda: token or "",
        heartbeat=HEARTBEAT,
        resync=RESYNC,
        rpc_timeout=5.0,
        retry_max=2.0,
        join_url=join_url,
        ca_fingerprint=ca_fingerprint,
    )


def configure(conf: cfg.ConfigOpts, directory: Path) -> None:
    """Point the configuration at a lab: its own database, events that come at once."""
    store = directory / "core"
    store.mkdir(mode=0o700, exist_ok=True)
    conf.set_override("connection", f"sqlite:///{store}/state.sqlite", "database")
    conf.set_override("listen", "127.0.0.1", "join")
    conf.set_override("port", 0, "join")
    conf.set_override("ca_directory", str(store / "ca"), "join")
    conf.set_override("key_file", str(store / "secrets.json"), "secrets")
    for bound in ("burst", "connections_per_source"):  # all VMs come from one address
        conf.set_override(bound, 1000, "join")
    conf.set_override("down_after", 10.0, "core")
    conf.set_override("health_interval", 1.0, "core")


def _key(vault: Vault) -> None:
    """The key of the lab's database; made with the lab's first hub."""
    if not vault.path.exists():
        vault.create()


def _authority(directory: Path) -> Authority:
    """The lab's own authority; made with the lab's first hub."""
    try:
        return authority.load(directory)
    except NotFound:
        return authority.create(directory, datetime.datetime.now(datetime.UTC))


def address(directory: Path) -> str:
    """The hub's socket, by a path that is short enough for one (108 bytes, unix(7))."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    path = f"/proc/self/fd/{fd}/{SOCKET}"
    (directory / SOCKET).unlink(missing_ok=True)
    return path


def tell_ready(where: str) -> None:
    """Tell who waits on a datagram socket that we are up (sd_notify(3))."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"READY=1", where)


def _joined(vm: Vm) -> bool:
    return (vm.disk / "agent" / "identity.json").exists()
