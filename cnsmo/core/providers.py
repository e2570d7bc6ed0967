# SPDX-License-Identifier: Apache-2.0
"""Runs provider drivers: what is declared with one of them is kept in the cloud by the cores.

What a driver keeps for an instance is known by a row that is written before anything is made, and
goes after everything is removed. All cores do this; two that meet do no harm.
"""

from __future__ import annotations

import dataclasses
import random
import secrets
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any

from oslo_log import log

from cnsmo.core.context import Core
from cnsmo.model.errors import CnsmoError, NotFound
from cnsmo.model.lifecycle import State
from cnsmo.model.messages import MAX_REASON
from cnsmo.model.reading import read
from cnsmo.model.resource import CORE, HOST, Row, View, adjustment_kind
from cnsmo.services import registry
from cnsmo.services.kit.openstack import connect
from cnsmo.services.provider import Claim, Kept, ProviderDriver, provider_kind
from cnsmo.state import audit
from cnsmo.state.writer import Writer

LOG = log.getLogger(__name__)
SOON = 0.5
"""Seconds within which a change of what is declared is noticed."""
JITTER = 0.3
"""Of the interval: several cores do not look in step."""
Key = tuple[str, str, str]
"""Deployment, service, instance."""


@dataclasses.dataclass(frozen=True)
class _Known:
    """A deployment as it was read last. ``moved``: revision of what instances are made from."""

    revision: int
    moved: int
    instances: tuple[tuple[str, str], ...]


class Providers:
    """The work of one core process, from start() to stop()."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._stop = threading.Event()
        self._pool = futures.ThreadPoolExecutor(core.conf.cloud.workers, "provider")
        self._thread: threading.Thread | None = None
        self._due: dict[Key, float] = {}
        self._known: dict[str, _Known] = {}
        self._busy: dict[Key, futures.Future[None]] = {}

    def start(self) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._run, name="providers", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End, after what is under way."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._pool.shutdown(cancel_futures=True)

    def look(self) -> list[futures.Future[None]]:
        """Begin what is due, each instance on a thread of its own."""
        begun = []
        now = time.monotonic()
        for key, moved in self._wanted():
            if key in self._busy and not self._busy[key].done():
                continue
            if moved or self._due.get(key, 0.0) <= now:
                self._due[key] = now + self._pause()
                self._busy[key] = self._pool.submit(self._work, key)
                begun.append(self._busy[key])
        return begun

    def _pause(self) -> float:
        spread = 1 + random.uniform(-JITTER, JITTER)  # nosec B311
        return float(self._core.conf.cloud.interval) * spread

    def _run(self) -> None:
        while not self._stop.wait(SOON):
            try:
                self.look()
            except Exception as exc:  # noqa: BLE001  # the database may be away; it goes on
                LOG.warning("providers: %s", exc)

    def _wanted(self) -> Iterator[tuple[Key, bool]]:
        """All instances that a provider driver keeps or shall keep; whether anything has moved."""
        there = self._core.store.deployments()
        for found in there:
            known = self._known.get(found.name)
            fresh = known
            if known is None or known.revision != found.revision:
                fresh = self._known[found.name] = self._read(found.name)
            moved = known is None or (fresh is not None and fresh.moved != known.moved)
            for service, name in fresh.instances if fresh is not None else ():
                yield (found.name, service, name), moved
        for gone in self._known.keys() - {found.name for found in there}:
            del self._known[gone]

    def _read(self, deployment: str) -> _Known:
        services = registry.services()
        compiled = [HOST, *services, *map(adjustment_kind, services)]
        kinds = [*compiled, *map(provider_kind, services)]
        view = self._core.store.view(deployment, kinds=kinds)
        rows = [row for kind in compiled for row in (*view.rows(kind), *view.tombstones(kind))]
        found = {
            (service, row.name)
            for service in services
            for row in (*view.rows(provider_kind(service)), *_provided_of(view, service))
        }
        return _Known(
            view.revision, max((row.revision for row in rows), default=0), tuple(sorted(found))
        )

    def _work(self, key: Key) -> None:
        try:
            self._converge(key)
        except NotFound:
            LOG.info("providers: %s %s %s is gone", *key)
        except Exception:  # a driver's; the others go on
            LOG.exception("providers: %s %s %s", *key)

    def _converge(self, key: Key) -> None:
        deployment, service, instance = key
        view = self._core.store.view(deployment)
        declared = view.get(service, instance)
        kept = view.get(provider_kind(service), instance)
        wanted = declared.body["driver"] if declared and _provided(service, declared) else None
        if kept is not None and kept.body["driver"] != wanted:
            self._remove(key, kept)
            kept = None
        if declared is not None and wanted is not None:
            claim = self._claimed(key, wanted, kept)
            self._apply(claim, wanted, view, declared)

    def _claimed(self, key: Key, driver: str, kept: Row | None) -> Claim:
        """The claim of an instance; written down before it is used."""
        mark = kept.body["mark"] if kept else secrets.token_hex(6)

        def work(writer: Writer) -> str:
            row = writer.get(provider_kind(key[1]), key[2])
            if row is not None:  # another core was quicker
                return str(row.body["mark"])
            body: dict[str, Any] = {"driver": driver, "mark": mark, "declared": 0, "detail": {}}
            begun = {"state": State.CONFIGURING, "reason": ""}
            writer.put(provider_kind(key[1]), key[2], {**body, **begun}, CORE)
            return str(mark)

        if kept is None:
            mark = self._core.write(key[0], audit.CORE.by("provider"), work).value
        return Claim(*key, mark)

    def _apply(self, claim: Claim, driver: str, view: View, declared: Row) -> None:
        spec = read(registry.service(claim.service).Spec, declared.body)
        try:
            kept = self._driver(claim.service, driver).apply(claim, view, spec)
        except CnsmoError as exc:
            self._tell(claim, State.ERROR, str(exc), None, declared.revision)
            return
        for line in kept.changes:
            LOG.info("%s %s %s: %s", claim.deployment, claim.service, claim.instance, line)
        key = (claim.deployment, claim.service, claim.instance)
        if kept.again is not None:
            self._due[key] = time.monotonic() + kept.again
        state = State.DEGRADED if kept.problems else State.READY
        if kept.again is not None and not kept.problems:
            state = State.CONFIGURING
        self._tell(claim, state, "; ".join(kept.problems), kept, declared.revision)

    def _remove(self, key: Key, kept: Row) -> None:
        claim = Claim(*key, kept.body["mark"])
        try:
            for line in self._driver(claim.service, kept.body["driver"]).remove(claim):
                LOG.info("%s %s %s: %s", *key, line)
        except CnsmoError as exc:
            self._tell(claim, State.ERROR, f"cannot be removed: {exc}", None)
            raise
        kind = provider_kind(claim.service)
        act = audit.CORE.by("provider")
        self._core.write(claim.deployment, act, lambda writer: writer.delete(kind, kept.name))

    def _driver(self, service: str, name: str) -> ProviderDriver:
        made = registry.provider_class(service, name)
        conf = self._core.conf.cloud
        return made(connect(conf.name, conf.timeout))

    def _tell(
        self, claim: Claim, state: State, reason: str, kept: Kept | None, declared: int = 0
    ) -> None:
        """Write the state down, if it is another one. declared: the revision that it is of."""

        def work(writer: Writer) -> None:
            row = writer.get(provider_kind(claim.service), claim.instance)
            if row is None or row.body["mark"] != claim.mark:
                return
            detail: Any = row.body["detail"] if kept is None else dict(kept.detail)
            said = {"state": state, "reason": reason[:MAX_REASON], "detail": detail}
            said["declared"] = declared or row.body["declared"]
            writer.put(row.kind, row.name, {**row.body, **said}, CORE)

        self._core.write(claim.deployment, audit.CORE.by("provider"), work)


def _provided_of(view: View, service: str) -> Iterator[Row]:
    return (row for row in view.rows(service) if _provided(service, row))


def _provided(service: str, row: Row) -> bool:
    return registry.is_provided(service, str(row.body.get("driver", "")))
