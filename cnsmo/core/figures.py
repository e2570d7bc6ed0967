# SPDX-License-Identifier: Apache-2.0
"""What a core tells Prometheus; loaded only where it is asked to.

The names follow https://prometheus.io/docs/practices/naming. Of single hosts nothing is told: they
are counted, by state and in buckets.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator

import sqlalchemy as sa
from oslo_config import cfg
from oslo_db import exception as db_exc
from oslo_log import log
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import GaugeHistogramMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from cnsmo import __version__
from cnsmo.bus import transport
from cnsmo.bus.depth import Depth, depths
from cnsmo.state import census
from cnsmo.state.census import Census, Crowd
from cnsmo.state.engine import told_when_unavailable
from cnsmo.telemetry.health import Health, Level
from cnsmo.telemetry.probe import Probe

LOG = log.getLogger(__name__)
SECONDS = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0)
PATIENCE = 3.0
FRESH = 5.0
"""Seconds for which a count of the database serves whoever asks: it may be many hosts."""
Family = GaugeMetricFamily | GaugeHistogramMetricFamily
DEADLOCK, DUPLICATE, OTHER = "deadlock", "duplicate", "other"
UNAVAILABLE = "unavailable"
"""Kinds of what the database refuses; the last: it did not answer at all."""


class Figures:
    """Counts what a core does, and looks how its deployments stand when somebody asks."""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        engine: sa.Engine,
        agents_url: str,
        health: Callable[[], Health],
    ) -> None:
        """agents_url: where agents' calls wait for cores; empty: ``[bus] url``."""
        self.registry = CollectorRegistry(auto_describe=False)
        self._engine = engine
        self._listening = contextlib.ExitStack()
        made = functools.partial(Counter, registry=self.registry)
        self._calls = made(
            "cnsmo_core_calls", "Calls that were answered, and how", ["caller", "call", "outcome"]
        )
        self._seconds = Histogram(
            "cnsmo_core_call_seconds",
            "Time to answer a call, without its wait in the broker",
            ["caller", "call"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._hints = made("cnsmo_core_hints", "Hints to hosts", ["outcome"])
        self._errors = made("cnsmo_core_database_errors", "What the database refused", ["kind"])
        self.registry.register(_Core(conf, engine, agents_url, health))
        ProcessCollector(registry=self.registry)

    def start(self) -> None:
        """Begin to count what the database refuses."""
        for kind in (DEADLOCK, DUPLICATE, OTHER, UNAVAILABLE):
            self._errors.labels(kind)
        sa.event.listen(self._engine, "handle_error", self._refused)
        away = self._errors.labels(UNAVAILABLE).inc
        self._listening.enter_context(told_when_unavailable(self._engine, away))

    def stop(self) -> None:
        """End."""
        sa.event.remove(self._engine, "handle_error", self._refused)
        self._listening.close()

    def call(self, caller: str, call: str, outcome: str, seconds: float) -> None:
        """A call was answered."""
        self._calls.labels(caller, call, outcome).inc()
        self._seconds.labels(caller, call).observe(seconds)

    def hint(self, sent: bool) -> None:
        """A hint was sent, or could not be."""
        self._hints.labels("sent" if sent else "failed").inc()

    def _refused(self, context: sa.engine.interfaces.ExceptionContext) -> None:
        # Not there yet where the connection itself failed, which counts as no answer.
        error = getattr(context, "chained_exception", None) or context.sqlalchemy_exception
        if not context.is_disconnect and context.connection is not None:
            self._errors.labels(_kind(error)).inc()


def _kind(error: BaseException | None) -> str:
    if isinstance(error, db_exc.DBDeadlock):
        return DEADLOCK
    return DUPLICATE if isinstance(error, db_exc.DBDuplicateEntry) else OTHER


class _Core(Collector):
    """Asks anew at each scrape; what does not answer hides nothing else."""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        engine: sa.Engine,
        agents_url: str,
        health: Callable[[], Health],
    ) -> None:
        self._engine = engine
        self._health = health
        self._census = Probe(lambda: census.take(engine), PATIENCE, FRESH)
        self._queues = Probe(lambda: _waiting(conf, agents_url), PATIENCE, FRESH)

    def collect(self) -> Iterator[Family]:
        """All figures there are now, by family."""
        yield _gauge("cnsmo_core_info", "Which release this is", [({"version": __version__}, 1)])
        yield _gauge(
            "cnsmo_core_check",
            "Whether what /healthz looks at is well",
            [
                ({"check": it.name}, it.level is not Level.FAILING)
                for it in self._health().checks
            ],
        )  # fmt: skip
        yield from self._pool()
        for tell in (self._deployments, self._waiting):
            try:
                yield from tell()
            except Exception as exc:  # noqa: BLE001  # cnsmo_core_check says what is away
                LOG.debug("figures: %s", exc)

    def _pool(self) -> Iterator[Family]:
        pool = self._engine.pool
        if isinstance(pool, sa.QueuePool):
            said = "Connections to the database that are in use"
            yield _gauge("cnsmo_core_database_connections", said, [({}, pool.checkedout())])

    def _deployments(self) -> Iterable[Family]:
        return list(_counted(self._census.read()))

    def _waiting(self) -> Iterable[Family]:
        found = self._queues.read()
        said = "Messages that wait for a core"
        yield _gauge(
            "cnsmo_core_queue_messages", said, [({"queue": it.queue}, it.messages) for it in found]
        )
        takers = [({"queue": it.queue}, it.consumers) for it in found if it.consumers is not None]
        said = "How many take from a queue: cores times their connections"
        yield _gauge("cnsmo_core_queue_consumers", said, takers)


def _waiting(conf: cfg.ConfigOpts, agents_url: str) -> list[Depth]:
    return [
        *depths(conf, (transport.AGENTS_TOPIC,), PATIENCE, agents_url),
        *depths(conf, (transport.OPERATORS_TOPIC,), PATIENCE),
    ]


def _counted(found: Census) -> Iterator[Family]:
    yield _gauge(
        "cnsmo_deployment_revision",
        "The newest revision",
        [({"deployment": name}, revision) for name, revision in found.revisions.items()],
    )
    yield _gauge(
        "cnsmo_deployment_hosts",
        "Hosts that belong to it, whether they are heard or not",
        [({"deployment": name}, count) for name, count in found.hosts.items()],
    )
    yield _gauge(
        "cnsmo_deployment_agents",
        "Agents of a service that are in a state",
        [
            ({"deployment": it.deployment, "service": it.service, "state": it.state}, it.count)
            for it in found.crowds
        ],
    )
    yield _lag(found)
    yield _silence(found)


def _lag(found: Census) -> Family:
    said = "How many revisions behind agents are, of those that are heard"
    family = GaugeHistogramMetricFamily(
        "cnsmo_deployment_lag_revisions", said, labels=["deployment"]
    )
    for name in found.revisions:
        heard = [it for it in found.crowds if it.deployment == name and not it.gone]
        buckets = _buckets(census.REVISIONS, [it.behind for it in heard], heard)
        family.add_metric([name], buckets, sum(it.behind_sum for it in heard))
    return family


def _silence(found: Census) -> Family:
    said = "Agents that were heard within so many seconds"
    family = GaugeMetricFamily(
        "cnsmo_deployment_heard_agents", said, labels=["deployment", "within"]
    )
    for name in found.revisions:
        all_of_it = [it for it in found.crowds if it.deployment == name]
        for bound, count in _buckets(census.SECONDS, [it.silent for it in all_of_it], all_of_it):
            family.add_metric([name, bound], count)
    return family


def _buckets(
    bounds: tuple[int, ...], below: list[tuple[int, ...]], crowds: list[Crowd]
) -> list[tuple[str, float]]:
    sums = [sum(column) for column in zip(*below, strict=True)] or [0] * len(bounds)
    everybody = sum(it.count for it in crowds)
    return [*zip(map(str, bounds), map(float, sums), strict=True), ("+Inf", float(everybody))]


def _gauge(name: str, meaning: str, samples: Iterable[tuple[dict[str, str], float]]) -> Family:
    known = list(samples)
    family = GaugeMetricFamily(name, meaning, labels=list(known[0][0]) if known else [])
    for labels, value in known:
        family.add_metric(list(labels.values()), value)
    return family
