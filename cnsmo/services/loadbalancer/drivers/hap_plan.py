# SPDX-License-Identifier: Apache-2.0
"""What has to change in a running haproxy so that its servers are as wanted; pure.

Everything here is done by the runtime API (HAProxy's management guide, 9.3), without a reload. A
server that comes, or comes back, is down until its checks say otherwise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from cnsmo.services.loadbalancer.drivers import hap_text as text
from cnsmo.services.loadbalancer.drivers.hap_render import Config
from cnsmo.services.loadbalancer.drivers.hap_server import BACKUP, HapServer
from cnsmo.services.loadbalancer.drivers.hap_stat import Seen

Key = tuple[str, str]
DELETED = "Server deleted."
DONE = ("", "New server registered.", DELETED)
DYNAMIC = "pool-purge-delay 5s pool-max-conn -1"
"""What servers of the file have by default, and those of the runtime API only when told so: without
it no connection to them is kept for the next request."""
CHANGED = ("IP changed", "port changed", "no need to change the addr")


@dataclasses.dataclass(frozen=True)
class Step:
    """One difference: how it was found, what is said once it is gone, and the commands."""

    found: str
    told: str
    commands: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Plan:
    """``reload``: why the runtime API is not enough; "" where it is."""

    steps: tuple[Step, ...]
    reload: str = ""


def make_plan(config: Config, leaving: Iterable[HapServer], seen: Iterable[Seen]) -> Plan:
    """The differences between what is wanted and what was seen, those that leave included."""
    there = {it.key: it for it in seen}
    wanted = config.servers
    steps: list[Step] = []
    for server in leaving:
        if server.key in there:
            steps += _leave(server, there[server.key])
    reload = ""
    for key, server in wanted.items():
        known = there.get(key)
        if known is None:
            steps.append(_join(server, config.common[server.pool]))
            if server.ordered:
                reload = f"{server.title}, which comes into an order"
        else:
            steps += _adjust(server, known)
            if server.ident and server.ident != known.ident:
                reload = f"{server.title}, which has another id"
    if not reload and _out_of_order(config, there):
        reload = "servers that are out of order"
    return Plan(tuple(steps), reload)


def strays(config: Config, leaving: Mapping[Key, object], seen: Iterable[Seen]) -> list[HapServer]:
    """Servers that are there, and that nobody wants or has told to leave yet."""
    wanted = config.servers
    return [
        HapServer(
            pool=it.pool,
            name=it.name,
            host=it.name.partition("_")[0],
            address=it.address,
            port=it.port,
            ident=it.ident,
            weight=it.weight,
            backup=it.name.endswith(BACKUP),
            stopped=True,
        )
        for it in seen
        if it.key not in wanted and it.key not in leaving
    ]


def done(answer: str) -> bool:
    """Whether a command was carried out, by what was answered to it."""
    return answer in DONE or answer.startswith(CHANGED)


def ordered(command: str) -> str:
    """The path of the server that a command brings into another state; "" for all others."""
    match command.split():
        case ["set", "server", path, "state" | "health", *_]:
            return path
    return ""


def removal(server: HapServer, overdue: bool) -> list[str]:
    """The commands that delete a server; the last one is the one that counts.

    overdue: whether it has no time left. HAProxy deletes none that has idle connections, and those
    that became idle after the server had left would stay for half a minute; a server that moves
    loses them at once (2.6: srv_update_addr_port in src/server.c).
    """
    ending = [f"shutdown sessions server {server.path}"] if overdue else []
    moving = [f"set server {server.path} addr {server.address} port {port}" for port in (9, 10)]
    return [*ending, *moving, f"del server {server.path}"]


def leaves(server: HapServer) -> str:
    """What is said of one that gets nothing new from now on."""
    return f"{server.title} leaves"


def _join(server: HapServer, common: str) -> Step:
    commands = [f"add server {server.path} {server.words} {DYNAMIC} {common}".rstrip()]
    if server.hashed:
        commands.append(f"enable dynamic-cookie backend {server.pool}")
    commands += [f"enable health {server.path}"] if server.checked else []
    commands += [] if server.stopped else _ready(server)
    return Step(f"{server.title} is missing", f"{server.title} joined", tuple(commands))


def _ready(server: HapServer) -> list[str]:
    """Drained first: the state that a check finds would be forgotten in maintenance. To HAProxy it
    is about to stop, then, and gets nothing new; the first good check ends that, while one who fell
    needs ``rise`` of them."""
    if not server.checked:
        return [f"set server {server.path} state ready"]
    return [
        f"set server {server.path} state drain",
        f"set server {server.path} health stopping",
        f"set server {server.path} state ready",
    ]


def _leave(server: HapServer, known: Seen) -> list[Step]:
    if known.stopped or not server.stopped:
        return []
    found = f"{server.title} takes requests, and is on its way out"
    return [Step(found, leaves(server), (f"set server {server.path} state maint",))]


def _adjust(server: HapServer, known: Seen) -> list[Step]:
    if _alike(server, known):
        return []
    path, title = server.path, server.title
    steps = []
    if (known.address, known.port) != (server.address, server.port):
        place = f"{text.address(server.address)} port {server.port}"
        command = f"set server {path} addr {place}"
        found = f"{title} is at {known.address} port {known.port}"
        steps.append(Step(found, f"{title}: address {place}", (command,)))
    if known.weight != server.weight:
        found = f"{title} has the weight {known.weight} instead of {server.weight}"
        command = f"set server {path} weight {server.weight}"
        steps.append(Step(found, f"{title}: weight {server.weight}", (command,)))
    if server.checked and not known.checking:
        found = f"{title} is not checked"
        steps.append(Step(found, f"{title}: checked", (f"enable health {path}",)))
    if server.stopped and not known.stopped:
        found, command = f"{title} is not drained", f"set server {path} state maint"
        steps.append(Step(found, f"{title}: drained", (command,)))
    if not server.stopped and (known.stopped or known.drained):
        steps.append(Step(f"{title} is drained", f"{title}: ready", tuple(_ready(server))))
    return steps


def _alike(server: HapServer, known: Seen) -> bool:
    """Whether nothing has to be done about it, as about nearly all of them."""
    return (
        (known.address, known.port, known.weight) == (server.address, server.port, server.weight)
        and known.checking >= server.checked
        and known.stopped == server.stopped
        and (server.stopped or not known.drained)
    )


def _out_of_order(config: Config, there: Mapping[Key, Seen]) -> bool:
    for backend in config.backends:
        known = [there[it.key].ident for it in backend.servers if it.ordered and it.key in there]
        if known != sorted(known):
            return True
    return False
