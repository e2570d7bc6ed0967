# SPDX-License-Identifier: Apache-2.0
"""Symptoms of the broker, of what waits in it, and of the way to cores and agents."""

from __future__ import annotations

import time
from collections.abc import Iterator

from cnsmo.bus import transport
from cnsmo.bus.depth import EVENTS_QUEUE, Depth, depths
from cnsmo.bus.knock import knock
from cnsmo.doctor.site import Site
from cnsmo.doctor.symptom import Finding, critical, few, warning
from cnsmo.model.errors import CnsmoError
from cnsmo.model.lifecycle import GONE
from cnsmo.model.messages import AgentStatus, BusFinding

PATIENCE = 5.0
"""Seconds for each step at the broker."""
NOTABLE, NEARLY_FULL = 0.05, 0.5
"""Shares of [bus] core_queue_messages that wait: to look after, and to act on."""
FEW_MESSAGES = 50
"""So many may wait for a moment."""
LATER = 1.0
"""Seconds between two looks at a queue that grows."""
KEPT_EVENTS = 1000
HINT_SECONDS = 4.0
"""How long a hint and what follows from it may take; less than a heartbeat."""
POLL = 0.25


def broker_away(site: Site) -> Iterator[Finding]:
    """The broker cannot be reached.

    Nobody hears anybody: nothing new can be declared, agents keep what is in force. Is it running,
    is its port open from here, is [bus] url right? Everybody finds it again by itself.
    """
    if transport.is_in_process(site.conf):
        return
    try:
        knock(site.conf, PATIENCE)
    except CnsmoError as exc:
        yield critical(str(exc))


def core_away(site: Site) -> Iterator[Finding]:
    """No core answers.

    Agents keep what is in force; nothing new can be declared. Start cnsmo-core; where it runs, its
    log says what it waits for. Does it have the same [bus] url as this program?
    """
    if not transport.is_in_process(site.conf):
        knock(site.conf, PATIENCE)
    try:
        site.client().deployment_list()
    except CnsmoError as exc:
        yield critical(str(exc))


def queue_growing(site: Site) -> Iterator[Finding]:
    """Messages wait in the broker, and do not get less.

    For a core ('cnsmo-core', 'cnsmo-operator'): start another one, or see what holds those up that
    run (their log, the database). For nobody ('cnsmo-events.info'): oslo.messaging's notifications
    are switched on, and no program takes them: switch them off, [oslo_messaging_notifications]
    driver, and delete the queue.
    """
    bound = site.conf.bus.core_queue_messages
    before = _waiting(site)
    if any(it.messages > FEW_MESSAGES for it in before.values()):
        time.sleep(LATER)
    now = _waiting(site)
    for name, found in sorted(now.items()):
        told = f"{found.messages} messages wait in {name}"
        if name == EVENTS_QUEUE:
            if found.messages > KEPT_EVENTS:
                yield warning(told if found.consumers else f"{told}, and nobody takes them")
        elif found.consumers == 0:
            yield critical(f"nobody takes from {name}; {told}")
        elif found.messages > bound * NEARLY_FULL:
            yield critical(f"{told}; at {bound} the broker refuses more")
        elif found.messages > FEW_MESSAGES and found.messages >= before[name].messages:
            yield warning(f"{told}, and they do not get less")
        elif found.messages > bound * NOTABLE:
            yield warning(told)


def accounts(site: Site) -> Iterator[Finding]:
    """The broker does not have what it should have: agents without an account, or the reverse.

    'cnsmo-manage bus audit' shows each; the cores put right what they made every [bus]
    audit_interval seconds, 'cnsmo-manage bus audit --fix' does so now. What CNSMO did not make is
    for you to judge: in the agents' virtual host nobody else has any business.
    """
    found = site.client().bus_audit()
    without = [it for it in found if it.agent and it.kind == "account" and it.remedy == "make"]
    if without:
        yield critical(f"agents without an account: {few([it.agent for it in without])}")
    foreign = [it for it in found if not it.mendable]
    if foreign:
        yield warning(f"not made by CNSMO: {few(list(map(_named, foreign)))}")
    others = [it for it in found if it not in without and it not in foreign]
    if others:
        yield warning(f"not as it should be: {few(list(map(_named, others)))}")


def hints_not_arriving(site: Site) -> Iterator[Finding]:
    """Agents that live do not hear hints: they learn of changes by their next heartbeat only.

    Restart such an agent; its tunnels stay. If that does not help: 'cnsmo-manage bus audit', and
    the log of the cores for 'hint not sent'. An agent that is busy with a long change is late, too:
    look again. Tried by asking all agents for a fresh observation.
    """
    client = site.client()
    for deployment in client.deployment_list():
        client.look(deployment.name)
        asked = time.monotonic()
        deaf = _unseen(site, deployment.name, asked)
        while deaf and time.monotonic() - asked < HINT_SECONDS:
            time.sleep(POLL)
            deaf = _unseen(site, deployment.name, asked)
        if deaf:
            told = f"{deployment.name}: not heard within {HINT_SECONDS:g} s by"
            yield warning(f"{told} {few(deaf)}")


def _unseen(site: Site, deployment: str, asked: float) -> set[str]:
    """Hosts that live, of which an agent has not observed anew."""
    elapsed = time.monotonic() - asked
    return {
        agent.host
        for host in site.client().host_list(deployment)
        for agent in host.agents
        if _lives(site, agent)
        and (agent.observed_age is None or agent.observed_age > elapsed + POLL)
    }


def _lives(site: Site, agent: AgentStatus) -> bool:
    heard = agent.heartbeat_age is not None and agent.heartbeat_age < site.conf.core.down_after
    return heard and agent.state not in GONE


def _waiting(site: Site) -> dict[str, Depth]:
    agents = depths(site.conf, (transport.AGENTS_TOPIC,), PATIENCE, site.broker.answering_url)
    others = depths(site.conf, (transport.OPERATORS_TOPIC, EVENTS_QUEUE), PATIENCE)
    return {it.queue: it for it in (*agents, *others)}


def _named(finding: BusFinding) -> str:
    return f"{finding.kind} {finding.name} {finding.problem}"
