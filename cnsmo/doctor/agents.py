# SPDX-License-Identifier: Apache-2.0
"""Symptoms of agents, as the database has them."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

import sqlalchemy as sa

from cnsmo.doctor.site import Site
from cnsmo.doctor.symptom import Finding, critical, few, warning
from cnsmo.model.lifecycle import State
from cnsmo.model.resource import AGENT
from cnsmo.state.engine import transaction, utc_now
from cnsmo.state.tables import AGENTS, DEPLOYMENTS, RESOURCES

LONG, FAR_TOO_LONG = datetime.timedelta(minutes=2), datetime.timedelta(minutes=15)
"""How old a change may be that an agent which lives has not applied: to look after, to act on."""


def agents_behind(site: Site) -> Iterator[Finding]:
    """Agents that live have not applied changes that were made long ago.

    'cnsmo-manage agent show HOST SERVICE' has the reason where the agent knows it: an error is
    tried again at each resync. Where it says 'ready', restart that agent; what is in force stays.
    """
    now = utc_now()
    late: dict[bool, set[str]] = {True: set(), False: set()}
    for name, since in _waiting(site, now).items():
        if now - since >= LONG:
            late[now - since >= FAR_TOO_LONG].add(name)
    if late[True]:
        yield critical(f"behind for more than {_minutes(FAR_TOO_LONG)}: {few(late[True])}")
    if late[False]:
        yield warning(f"behind for more than {_minutes(LONG)}: {few(late[False])}")


def agents_in_trouble(site: Site) -> Iterator[Finding]:
    """Agents are down, or could not bring in force what is declared.

    'cnsmo-manage agent list --state down --state error' shows them with the reasons. Down: look at
    the VM and at its way to the broker; its tunnels may well be working. A VM that will not come
    back: 'cnsmo-manage host remove'.
    """
    query = (
        sa.select(DEPLOYMENTS.c.name.label("deployment"), RESOURCES.c.name, RESOURCES.c.body)
        .join_from(RESOURCES, DEPLOYMENTS)
        .where(RESOURCES.c.kind == AGENT, RESOURCES.c.deleted.is_(False))
    )
    troubled: dict[str, set[str]] = {}
    with transaction(site.engine()) as connection:
        for record in connection.execute(query):
            troubled.setdefault(str(record.body["state"]), set()).add(
                f"{record.deployment}/{record.name}"
            )
    for state in (State.ERROR, State.DOWN):
        if troubled.get(state):
            yield warning(f"{state}: {few(troubled[state])}")


def _waiting(site: Site, now: datetime.datetime) -> dict[str, datetime.datetime]:
    """Agents that live and are behind: when the oldest change was made that each has not."""
    oldest = (
        sa.select(sa.func.min(RESOURCES.c.updated_at))
        .where(
            RESOURCES.c.deployment_id == AGENTS.c.deployment_id,
            RESOURCES.c.revision > AGENTS.c.applied_revision,
        )
        .scalar_subquery()
    )
    heard = now - datetime.timedelta(seconds=site.conf.core.down_after)
    behind = (
        sa.select(DEPLOYMENTS.c.name, AGENTS.c.host, AGENTS.c.service, oldest.label("since"))
        .join_from(AGENTS, DEPLOYMENTS)
        .where(AGENTS.c.applied_revision < DEPLOYMENTS.c.revision, AGENTS.c.heartbeat_at >= heard)
    )
    with transaction(site.engine()) as connection:
        return {
            f"{record.name}/{record.host}/{record.service}": record.since
            for record in connection.execute(behind)
            if record.since is not None
        }


def _minutes(duration: datetime.timedelta) -> str:
    return f"{duration.total_seconds() / 60:.0f} min"
