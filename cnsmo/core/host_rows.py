# SPDX-License-Identifier: Apache-2.0
"""What a write makes of the rows of hosts and agents: who is there, where they stand, who goes.

Pure: it works on any Changeset, the database's and the model check's (doc/protocol.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from cnsmo.core import claims
from cnsmo.model.errors import InvalidRequest, NotFound, Removed
from cnsmo.model.host import CloudFacts, HostFacts
from cnsmo.model.lifecycle import State, may_follow
from cnsmo.model.messages import AgentReport
from cnsmo.model.resource import (
    AGENT,
    BOUNDS,
    CORE,
    DISPUTED,
    HOST,
    QUARANTINED,
    Row,
    adjustment_kind,
    joined,
    member_kind,
)
from cnsmo.state.changeset import Changeset

CLOUD = "cloud"


def present(rows: Changeset, host: str, ident: str) -> Row:
    """The row of the host that calls.

    :raises Removed: when it was removed while its call waited; another may have its name by now.
    """
    row = rows.get(HOST, host)
    if row is None or row.body["id"] != ident:
        raise Removed(f"host {host!r} was removed from its deployment")
    return row


def put_host(
    rows: Changeset,
    host: str,
    ident: str,
    groups: Iterable[str],
    facts: HostFacts,
    bounds: Sequence[str] = (),
) -> dict[str, str]:
    """Write a host's row; whether it is in quarantine, and what its cloud says, is not its own.

    bounds: the networks in which its token says that it is; none: any.

    :return: its addresses that are not believed, and why.
    """
    row = rows.get(HOST, host)
    kept, disputed = claims.believed(rows, host, facts, bounds)
    body: dict[str, Any] = {"id": ident, "groups": sorted(groups), **kept.model_dump(mode="json")}
    if bounds:
        body[BOUNDS] = list(bounds)
    if disputed:
        body[DISPUTED] = disputed
    for key in (QUARANTINED, CLOUD):
        if row is not None and row.body.get(key):
            body[key] = row.body[key]
    rows.put(HOST, host, body, owner=CORE)
    return disputed


def learn(rows: Changeset, host: str, facts: CloudFacts) -> None:
    """Note what a cloud says of a host.

    :raises NotFound: when there is no such host.
    """
    row = rows.get(HOST, host)
    if row is None:
        raise no_host(rows.deployment, host)
    body = {key: value for key, value in row.body.items() if key != CLOUD}
    said = facts.model_dump(mode="json", exclude_defaults=True)
    rows.put(HOST, host, {**body, CLOUD: said} if said else body, owner=CORE)


def welcome(rows: Changeset, host: str, service: str, ident: str, repeated: bool) -> bool:
    """Write that an agent is joining.

    repeated: the same join came before. It may have come late, and the agent may have reported
    since: what it said stays.

    :return: whether that was written.
    """
    if repeated and rows.get(AGENT, joined(host, service)) is not None:
        return False
    transition(rows, host, service, State.JOINING, "", ident)
    return True


def reported(rows: Changeset, host: str, ident: str, report: AgentReport, held: bool) -> None:
    """Write where an agent stands, as it says.

    held: it stays down for now, whatever it says.

    :raises Removed: when its host was removed meanwhile.
    """
    present(rows, host, ident)
    if not held:
        transition(rows, host, report.service, report.state, report.reason, ident)


def transition(
    rows: Changeset, host: str, service: str, state: State, reason: str, owner: str
) -> None:
    """Write the row of an agent's state, when state or reason are new.

    :raises InvalidRequest: when the life cycle has no such edge.
    """
    name = joined(host, service)
    row = rows.get(AGENT, name)
    before = State(row.body["state"]) if row else State.JOINING
    if before != state and state is not State.JOINING and not may_follow(before, state):
        raise InvalidRequest(f"{name}: no way leads from {before} to {state}")
    rows.put(AGENT, name, {"state": state.value, "reason": reason}, owner)


def withdraw(rows: Changeset, host: str, services: Iterable[str]) -> None:
    """Take a host out of every service: what it announced, and how its agents stand."""
    for service in services:
        _delete_parts(rows, member_kind(service), host)
        rows.delete(AGENT, joined(host, service))


def take_out(rows: Changeset, host: str, services: Iterable[str], distrusted: bool = False) -> str:
    """Delete all rows of a host: its own, its agents', its place in every service.

    distrusted: its tombstone says that nobody trusts it any more, see View.distrusted.

    :return: its id.
    :raises NotFound: when there is no such host.
    """
    row = rows.get(HOST, host)
    if row is None:
        raise no_host(rows.deployment, host)
    services = list(services)
    withdraw(rows, host, services)
    for service in services:
        _delete_parts(rows, adjustment_kind(service), host)
    if distrusted:
        rows.put(HOST, host, {**row.body, QUARANTINED: True}, owner=CORE)
    rows.delete(HOST, host)
    return str(row.body["id"])


def must_report(state: str | None, held: bool = False) -> bool:
    """Whether an agent that beats has to report: the core says nothing of it, or that it is down.

    held: it stays down for now, whatever it says.
    """
    return state is None or (state == State.DOWN and not held)


def no_host(deployment: str, host: str) -> NotFound:
    """What is raised where a host is none."""
    return NotFound(
        f"deployment {deployment!r} has no host {host!r}; 'cnsmo-manage host list' shows all"
    )


def _delete_parts(rows: Changeset, kind: str, host: str) -> None:
    """Delete what is a host's of a kind whose rows are named ``INSTANCE/HOST``."""
    for part in rows.rows(kind):
        if part.name.rpartition("/")[2] == host:
            rows.delete(kind, part.name)
