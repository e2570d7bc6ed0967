# SPDX-License-Identifier: Apache-2.0
"""Looks at all copies of the state for as long as a run lasts; and at the end, at what is left."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from cnsmo.agent.system import LocalSystem
from cnsmo.lab.vm import Vm
from cnsmo.model.errors import CnsmoError
from tests.chaos import cast, reading
from tests.chaos.history import Calm, Copy
from tests.chaos.stage import Stage, each
from tests.eventually import eventually

EVERY = 3.0
"""Seconds between two looks."""
CORES = "cores"
LONELY = {"lo", "eth0"}
"""Interfaces of a VM on which nothing of ours is left."""
GONE_SECONDS = 60.0
AT_ONCE = 200
"""Ports that are knocked at together: each takes a file descriptor."""
KNOCK = """
import errno, json, select, socket, sys, time
poll, asked, found = select.poll(), {}, []
for port in map(int, sys.argv[2:]):
    sock = socket.socket()
    sock.setblocking(False)
    if sock.connect_ex((sys.argv[1], port)) in (0, errno.EINPROGRESS):
        poll.register(sock, select.POLLOUT)
        asked[sock.fileno()] = port, sock
until = time.monotonic() + 4.0
while asked and (left := until - time.monotonic()) > 0:
    for number, _event in poll.poll(left * 1000):
        port, sock = asked.pop(number)
        poll.unregister(number)
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) in (0, errno.ECONNREFUSED):
            found.append(port)
        sock.close()
print(json.dumps(found))
"""
"""Says which of the ports let a packet in: nobody listens, so that the VM itself refuses."""


class Watch:
    """Looks all the time while its context lasts."""

    def __init__(self, stage: Stage) -> None:
        self.copies: list[Copy] = []
        self._stage = stage
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look_on, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._over.set()
        self._thread.join()

    def look(self) -> None:
        """One round: the disks of all VMs, and what a core tells."""
        for spec in self._stage.specs:
            with contextlib.suppress(FileNotFoundError):
                text = self._stage.replica(spec.name).read_text()
                if found := reading.copy_of(spec.name, text, self._stage.now):
                    self.copies.append(found)
        with contextlib.suppress(CnsmoError):
            told = self._stage.operator(5.0).rows(cast.DEPLOYMENT)
            rows = (row.model_dump(mode="json") for row in told.rows)
            now = self._stage.now
            self.copies.append(reading.copy(CORES, "", told.head, rows, now))

    def _look_on(self) -> None:
        while not self._over.wait(EVERY):
            self.look()


def calm(stage: Stage, markers: Iterable[int]) -> Calm:
    """How things stand now; markers: all that were ever applied."""
    try:
        return _calm(stage, markers)
    except CnsmoError as exc:
        return Calm(frozenset(), {"cores": f"{type(exc).__name__}: {exc}"}, {}, stage.now)


def _calm(stage: Stage, markers: Iterable[int]) -> Calm:
    client = stage.operator(30.0)
    head = client.deployment_show(cast.DEPLOYMENT).revision
    told = reading.MARKER.findall(client.deployment_export(cast.DEPLOYMENT))
    inner, _outer = stage.addresses()
    ports = [cast.FIRST_MARKER + it for it in sorted(set(markers))]
    names = [it.name for it in stage.specs]
    asker = dict(zip(names, names[1:] + names[:1], strict=True))
    opened = each(names, lambda name: knock(stage.lab.vm(asker[name]), inner[name], ports))
    return Calm(
        told=frozenset(map(int, told)),
        behind=stage.behind(head),
        open={vm: frozenset(it - cast.FIRST_MARKER for it in them) for vm, them in opened.items()},
        at=stage.now,
    )


def knock(vm: Vm, address: str, ports: list[int]) -> list[int]:
    """Which of these ports of a host let packets of a VM in."""
    system, found = vm.system(), list[int]()
    for at in range(0, len(ports), AT_ONCE):
        words = ("python3", "-I", "-S", "-c", KNOCK, address, *map(str, ports[at : at + AT_ONCE]))
        found += json.loads(system.run(*words, timeout=30.0).stdout)
    return found


def remove_all(stage: Stage) -> list[str]:
    """Remove whatever was declared and all hosts; returns what is left after that."""
    try:
        return _remove_all(stage)
    except (CnsmoError, AssertionError) as exc:
        return [f"cores: not all could be removed: {type(exc).__name__}: {exc}"]


def _remove_all(stage: Stage) -> list[str]:
    client = stage.operator(30.0)
    client.apply(f"deployment: {cast.DEPLOYMENT}\n")
    stage.until_ready(client.deployment_show(cast.DEPLOYMENT).revision, GONE_SECONDS)
    left = [f"{vm.name}: {it}" for vm in stage.lab.vms() for it in _made_by_services(vm)]
    for agent in stage.agents.values():
        agent.let_go()
    for spec in stage.specs:
        client.host_remove(cast.DEPLOYMENT, spec.name)
    for name, agent in stage.agents.items():
        if not agent.join(GONE_SECONDS):
            left.append(f"{name}: its agent does not end")
    stage.traffic.close()
    client.deployment_delete(cast.DEPLOYMENT)
    left += [f"{vm.name}: {it}" for vm in stage.lab.vms() for it in on(vm)]
    with contextlib.suppress(AssertionError):
        eventually(lambda: not at_broker(stage), GONE_SECONDS, every=1.0)
    return list(dict.fromkeys(left)) + [f"broker: {it}" for it in at_broker(stage)]


def on(vm: Vm) -> list[str]:
    """Processes, interfaces and tables in a VM that are not its own."""
    system = vm.system()
    shown = system.run("ps", "-eo", "pid=,args=").stdout.splitlines()
    found = [f"process {it.strip()}" for it in shown if not _own(it.split(None, 1)[-1])]
    return found + _made_by_services(vm)


def _own(command: str) -> bool:
    """Whether a process is the VM's init, or the one that looks."""
    return command.startswith(("sleep infinity", "ps -eo"))


def _made_by_services(vm: Vm) -> list[str]:
    system = vm.system()
    links = {it["ifname"] for it in _json(system, "ip", "-j", "link", "show")}
    tables = [
        f"{it['table']['family']} {it['table']['name']}"
        for it in _json(system, "nft", "-j", "list", "tables")["nftables"]
        if "table" in it
    ]
    return [f"interface {it}" for it in sorted(links - LONELY)] + [f"table {it}" for it in tables]


def at_broker(stage: Stage) -> list[str]:
    """Accounts of agents, and what is in their virtual host that is named after one."""
    users = [f"account {it['name']}" for it in stage.api.get("users") if _agents(it)]
    things: list[str] = []
    for kind in ("queues", "exchanges"):
        there: list[Mapping[str, str]] = stage.api.get(kind, stage.agents_vhost)
        things += [f"{kind[:-1]} {it['name']}" for it in there if _agents(it)]
    return users + things


def _agents(thing: Mapping[str, str]) -> bool:
    return thing["name"].startswith(("agent-", "cnsmo-agent.", "reply_"))


def _json(system: LocalSystem, *words: str) -> Any:
    return json.loads(system.run(*words).stdout)
