# SPDX-License-Identifier: Apache-2.0
"""What an agent tells Prometheus of itself and its units; loaded only when it is asked to.

The names follow https://prometheus.io/docs/practices/naming.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from oslo_log import log
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from cnsmo import __version__
from cnsmo.agent.identity import HostIdentity
from cnsmo.agent.standing import Stand
from cnsmo.model.lifecycle import State
from cnsmo.services.figure import Figure

LOG = log.getLogger(__name__)
Family = CounterMetricFamily | GaugeMetricFamily


def registry(identity: HostIdentity, read: Callable[[], list[Stand]]) -> CollectorRegistry:
    """All that is served. read: asked at each scrape."""
    made = CollectorRegistry(auto_describe=False)
    made.register(_Agent(identity, read))
    ProcessCollector(registry=made)
    return made


class _Agent(Collector):
    """Asks anew at each scrape."""

    def __init__(self, identity: HostIdentity, read: Callable[[], list[Stand]]) -> None:
        self._identity = identity
        self._read = read

    def collect(self) -> Iterator[Family]:
        """All figures there are now, by family."""
        stands = self._read()
        who = {
            "deployment": self._identity.deployment,
            "host": self._identity.host,
            "version": __version__,
        }
        yield _gauge("cnsmo_agent_info", "Whose figures these are", [(who, 1.0)])
        yield _gauge(
            "cnsmo_agent_state",
            "1 for the state that a service's agent is in",
            [
                ({"service": it.service.name, "state": state.value}, state is it.outcome.state)
                for it in stands
                for state in State
            ],
        )
        yield _gauge(
            "cnsmo_agent_applied_revision",
            "Revision of the deployment that is in force",
            [({"service": it.service.name}, it.applied_revision) for it in stands],
        )
        yield _gauge(
            "cnsmo_agent_observed_timestamp_seconds",
            "When was looked at what is really there, in seconds of the epoch",
            [({"service": it.service.name}, it.outcome.seen_at) for it in stands],
        )
        yield _gauge(
            "cnsmo_unit_in_force",
            "Whether a unit was seen to be as declared",
            [
                ({"service": it.service.name, "unit": unit}, value)
                for it in stands
                for unit, value in _in_force(it).items()
            ],
        )
        for stand in stands:
            yield from _families(stand)


def _in_force(stand: Stand) -> dict[str, float]:
    seen = dict.fromkeys(stand.outcome.observation, 1.0)
    return seen | dict.fromkeys(stand.outcome.missing, 0.0)


def _gauge(name: str, meaning: str, samples: Iterable[tuple[dict[str, str], float]]) -> Family:
    family: GaugeMetricFamily | None = None
    for labels, value in samples:
        family = family or GaugeMetricFamily(name, meaning, labels=list(labels))
        family.add_metric(list(labels.values()), value)
    return family or GaugeMetricFamily(name, meaning, labels=[])


def _families(stand: Stand) -> list[Family]:
    """A service's own figures. What a plugin cannot tell must not hide what others tell."""
    found: dict[str, Family] = {}
    prefix = f"cnsmo_{stand.service.name.replace('-', '_')}_"
    for unit, detail in stand.outcome.observation.items():
        try:
            for figure in stand.service.figures(detail):
                _add(found, prefix, unit, figure)
        except Exception:  # of a plugin
            LOG.exception("the figures of %s %s", stand.service.name, unit)
    return list(found.values())


def _add(found: dict[str, Family], prefix: str, unit: str, figure: Figure) -> None:
    name = prefix + figure.name
    if name not in found:
        kind = CounterMetricFamily if figure.counter else GaugeMetricFamily
        found[name] = kind(name, figure.meaning, labels=["unit", *figure.labels])
    found[name].add_metric([unit, *figure.labels.values()], figure.value)
