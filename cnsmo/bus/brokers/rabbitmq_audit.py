# SPDX-License-Identifier: Apache-2.0
"""Compares what RabbitMQ has with what it should have: pure, over what was read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator
from typing import Any

from cnsmo.bus import transport
from cnsmo.bus.broker import Roster
from cnsmo.bus.brokers import rabbitmq_layout as layout
from cnsmo.model.messages import BusFinding

Json = dict[str, Any]
RIGHTS = ("configure", "write", "read")


@dataclasses.dataclass(frozen=True)
class Seen:
    """What the management API tells, and what the policies should be."""

    vhost: str
    manager: str
    users: dict[str, Json]
    permissions: list[Json]
    exchanges: dict[str, Json]
    bindings: list[Json]
    queues: list[str]
    policies: dict[str, Json]
    wanted_policies: dict[str, Json]


def differences(seen: Seen, roster: Roster, is_as_made: Callable[[Json], bool]) -> list[BusFinding]:
    """All findings, in a stable order.

    is_as_made: whether an account logs in as it should.
    """
    known = {*roster.living, *roster.leaving}
    return [
        *_shared(seen, is_as_made),
        *(
            finding
            for ident in sorted(roster.living)
            for finding in _agent(seen, ident, is_as_made)
        ),
        *_strays(seen, known),
        *_foreign_rights(seen),
    ]


def _shared(seen: Seen, is_as_made: Callable[[Json], bool]) -> Iterator[BusFinding]:
    for name, permission in layout.core_permissions().items():
        yield from _account(seen, name, permission, is_as_made, "")
    yield from _exchange(seen, transport.EXCHANGE, "")
    for name, wanted in seen.wanted_policies.items():
        there = seen.policies.get(name)
        if there is None:
            yield BusFinding(kind="policy", name=name, problem="is missing")
        elif any(there.get(key) != value for key, value in wanted.items()):
            yield BusFinding(kind="policy", name=name, problem="is not as it was made")


def _agent(seen: Seen, ident: str, is_as_made: Callable[[Json], bool]) -> Iterator[BusFinding]:
    name, permission = layout.account(ident), layout.agent_permission(ident)
    yield from _account(seen, name, permission, is_as_made, ident)
    yield from _exchange(seen, transport.agent_topic(ident), ident)
    source, destination, key = wanted = layout.into_core(ident)
    there = ((b["source"], b["destination"], b["routing_key"]) for b in seen.bindings)
    if wanted not in there:
        yield BusFinding(
            kind="binding",
            name=f"{source} to {destination} by {key}",
            agent=ident,
            problem="is missing",
        )


def _account(
    seen: Seen,
    name: str,
    permission: layout.Permission,
    is_as_made: Callable[[Json], bool],
    ident: str,
) -> Iterator[BusFinding]:
    user = seen.users.get(name)
    if user is None:
        yield BusFinding(kind="account", name=name, agent=ident, problem="is missing")
        return
    if not is_as_made(user):
        problem = "has another login, or tags"
        yield BusFinding(kind="account", name=name, agent=ident, problem=problem)
    given = [p for p in seen.permissions if p["user"] == name and p["vhost"] == seen.vhost]
    if [{right: p[right] for right in RIGHTS} for p in given] != [permission]:
        yield BusFinding(
            kind="permission",
            name=f"{seen.vhost}/{name}",
            agent=ident,
            problem="is not as it was made",
        )


def _exchange(seen: Seen, name: str, ident: str) -> Iterator[BusFinding]:
    there, wanted = seen.exchanges.get(name), layout.agent_exchange()
    if there is None:
        yield BusFinding(kind="exchange", name=name, agent=ident, problem="is missing")
    elif any(there[key] != value for key, value in wanted.items()) or there.get("arguments"):
        problem = "is not as it was made"
        yield BusFinding(kind="exchange", name=name, agent=ident, problem=problem, remedy="replace")


def _strays(seen: Seen, ids: Collection[str]) -> Iterator[BusFinding]:
    """What belongs by its name to a host that is not there, and what belongs to nobody."""
    inside = {p["user"] for p in seen.permissions if p["vhost"] == seen.vhost}
    known = {layout.ANSWER, layout.HINT, seen.manager}
    shared = {transport.EXCHANGE, f"{transport.AGENTS_TOPIC}_fanout"}
    for name in sorted(inside - known):
        yield from _stray("account", name, ids, "may enter the agents' virtual host")
    for name in sorted(set(seen.exchanges) - shared):
        if name and not name.startswith("amq."):
            yield from _stray("exchange", name, ids, "is none of CNSMO's")
    for name in sorted(seen.queues):
        if not name.startswith(transport.AGENTS_TOPIC):
            yield from _stray("queue", name, ids, "is none of CNSMO's")


def _stray(kind: str, name: str, ids: Collection[str], foreign: str) -> Iterator[BusFinding]:
    ident = layout.agent_of(name)
    if ident is None:
        yield BusFinding(kind=kind, name=name, problem=foreign, mendable=False)
    elif ident not in ids:
        problem = "belongs to no host"
        yield BusFinding(kind=kind, name=name, agent=ident, problem=problem, remedy="delete")


def _foreign_rights(seen: Seen) -> Iterator[BusFinding]:
    """An account that we made has no business in another virtual host."""
    for permission in seen.permissions:
        user, vhost = permission["user"], permission["vhost"]
        ours = user in (layout.ANSWER, layout.HINT) or _is_agent_here(seen, user)
        if ours and vhost != seen.vhost:
            problem = "gives an account of CNSMO's rights elsewhere"
            yield BusFinding(
                kind="permission", name=f"{vhost}/{user}", problem=problem, remedy="delete"
            )


def _is_agent_here(seen: Seen, user: str) -> bool:
    if layout.agent_of(user) is None or not user.startswith("agent-"):
        return False
    return any(p["user"] == user and p["vhost"] == seen.vhost for p in seen.permissions)
