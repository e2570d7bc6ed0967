# SPDX-License-Identifier: Apache-2.0
"""What always holds, and what comes true once faults have ended."""

from __future__ import annotations

from collections.abc import Iterable

from cnsmo.model.lifecycle import State
from cnsmo.model.resource import AGENT, CORE, HOST, View
from cnsmo.state.protocol import Copy
from tests.protocol.double import SERVICE, Base, held
from tests.protocol.parts import HOSTS, Agent, Answer


class Wrong(Exception):
    """An invariant does not hold."""


def ident(at: int, life: int) -> str:
    """The id of a VM."""
    return f"{HOSTS[at]}.{life}"


def check_base(before: Base, after: Base) -> None:
    """What holds for every write.

    :raises Wrong: when it does not.
    """
    if not before.head <= after.head <= before.head + 1:
        raise Wrong(f"from revision {before.head} a write leads to {after.head}")
    if not before.purged <= after.purged <= after.head:
        raise Wrong(f"the horizon goes from {before.purged} to {after.purged}")
    living = dict(after.living)
    for row in after.rows:
        name = row.name.partition("/")[0]
        if not row.deleted and row.kind == HOST and living.get(name) != row.body["id"]:
            raise Wrong(f"{name} is there as {row.body['id']}, which was removed")
        if not row.deleted and row.kind == AGENT and row.owner not in (CORE, living.get(name)):
            raise Wrong(f"the agent of {name} is there as {row.owner}, which was removed")
    for name, sign in after.signs:
        if living.get(name) != sign.by:
            raise Wrong(f"{name} gives signs of life as {sign.by}, which was removed")


def check_copy(before: Copy, after: Copy, answer: Answer) -> None:
    """What holds for every answer that is taken.

    :raises Wrong: when it does not.
    """
    if after.view.revision < before.view.revision:
        raise Wrong(f"a replica goes back from {before.view.revision} to {after.view.revision}")
    if (after.view.revision, held(after.view)) != (answer.changes.head, answer.truth):
        raise Wrong(f"a replica holds {shown(after.view)}, there was {sorted(answer.truth)}")


def check_report(base: Base, applied: int) -> None:
    """What is said to be in force was once the state; which one, check_copy() has seen.

    :raises Wrong: when it was not.
    """
    if applied > base.head:
        raise Wrong(f"{applied} is said to be in force; {shown_base(base)}")


def check_end(base: Base, agents: Iterable[tuple[Agent, View]]) -> None:
    """What has come true when nothing moves any more: all know, have in force and say the last.

    :raises Wrong: when it has not.
    """
    for agent, copy in agents:
        host = HOSTS[agent.host]
        lives = dict(base.living).get(host) == ident(agent.host, agent.life)
        sign = dict(base.signs).get(host)
        if lives != (agent.life > 0):
            raise Wrong(f"{host} is {'un' * (agent.life < 0)}known to its core for ever")
        if lives and (copy.revision, held(copy)) != (base.head, base.live()):
            raise Wrong(f"{host} stays at {shown(copy)}; {shown_base(base)}")
        if lives and (sign is None or (sign.applied, agent.applied) != (base.head, base.head)):
            raise Wrong(f"{host} has {agent.applied} in force, the core is told {sign}")
        if lives and base.state_of(host) != State.READY:
            raise Wrong(f"{host} is {agent.told}, the core says {base.state_of(host)} for ever")
    if base.living and base.confirmed() != {SERVICE: base.head}:
        raise Wrong(f"confirmed is {base.confirmed()}; {shown_base(base)}")


def shown(view: View) -> str:
    """What a replica holds, for people."""
    return f"{sorted(name for _kind, name, _at in held(view))} at {view.revision}"


def shown_base(base: Base) -> str:
    """What the database holds, for people."""
    return f"the core holds {sorted(base.live())} at {base.head}, purged {base.purged}"
