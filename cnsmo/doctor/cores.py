# SPDX-License-Identifier: Apache-2.0
"""Symptoms that show only when all cores say who they are."""

from __future__ import annotations

from collections.abc import Iterator

from cnsmo.doctor.database import LARGE_SKEW, SKEW, skewed
from cnsmo.doctor.site import Site
from cnsmo.doctor.symptom import Finding, critical, few, warning
from cnsmo.model.presence import AgentSeen, Presence


def cores_differ(site: Site) -> Iterator[Finding]:
    """Cores of one site are not alike.

    Which of them answers is chance, so that what a call does would be, too. Give all the same
    configuration, release, plugins, certificate authority and broker key, and restart them. During
    an upgrade they differ for a while: that is as it should be.
    """
    for what, values in _told([it.core for it in site.present()]).items():
        if len(values) < 2:
            continue
        listed = "; ".join(
            f"{value or '(nothing)'}: {few([it.name for it in cores])}"
            for value, cores in sorted(values.items())
        )
        judge = critical if what == "the database" else warning
        yield judge(f"{what} differs: {listed}")


def cores_clock(site: Site) -> Iterator[Finding]:
    """The clock of a core's machine is not that of this one.

    Let all follow the same time servers (chrony, systemd-timesyncd). Cores judge by their own
    clocks who is silent, which token is over, and which certificate.
    """
    for answer in site.present():
        yield from skewed(f"the clock of core {answer.core.name}", answer.ahead)


def agents_clock(site: Site) -> Iterator[Finding]:
    """The clocks of VMs are not that of the cores.

    What CNSMO does there carries on: ages are by the core's clock. But the VM renews its
    certificate too early or too late, and its logs mislead: let it follow a time server.
    """
    agents = {(it.deployment, it.host): it for it in _agents(site) if _off(it) >= SKEW}
    worst = [it for it in agents.values() if _off(it) >= LARGE_SKEW]
    others = [it for it in agents.values() if it not in worst]
    if worst:
        yield critical(f"clocks that are far off: {few([_clock(it) for it in worst])}")
    if others:
        yield warning(f"clocks that are off: {few([_clock(it) for it in others])}")


def _told(cores: list[Presence]) -> dict[str, dict[str, list[Presence]]]:
    """Cores by what they say, for each thing that they say."""
    found: dict[str, dict[str, list[Presence]]] = {}
    for core in cores:
        said = {**core.settings, "the release": core.release, "the database": core.database}
        for what, value in said.items():
            found.setdefault(what, {}).setdefault(value, []).append(core)
    return found


def _agents(site: Site) -> list[AgentSeen]:
    return [agent for answer in site.present() for agent in answer.core.agents]


def _off(agent: AgentSeen) -> float:
    return abs(agent.skew or 0.0)


def _clock(agent: AgentSeen) -> str:
    return f"{agent.deployment}/{agent.host} by {agent.skew or 0.0:+.0f} s"
