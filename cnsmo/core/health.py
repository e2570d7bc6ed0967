# SPDX-License-Identifier: Apache-2.0
"""Looks for agents that fell silent, and forgets old tombstones; harmless when two cores do it."""

from __future__ import annotations

import contextlib
import datetime
import threading
import time

from oslo_log import log

from cnsmo.core.context import Core
from cnsmo.core.membership import transition
from cnsmo.model.errors import CnsmoError, NotFound
from cnsmo.model.lifecycle import GONE, State
from cnsmo.model.resource import AGENT, CORE, joined
from cnsmo.state import liveness
from cnsmo.state.writer import Writer

LOG = log.getLogger(__name__)


class Health:
    """The periodic work of a core process."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._started = time.monotonic()
        self._audit_at = self._started

    def start(self) -> None:
        """Begin. For the first ``down_after`` seconds nobody is said to be down: this core may
        have been away itself, and the agents get time to find it again."""
        self._started = time.monotonic()
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="health", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End, after the look that is under way."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def look(self) -> None:
        """One look at everything."""
        if time.monotonic() - self._started >= self._core.conf.core.down_after:
            for deployment, host, service in self._core.liveness.silent(self._core.alive_within):
                with contextlib.suppress(NotFound):  # the deployment was deleted meanwhile
                    self._mark_down(deployment, host, service)
        self._core.removals.confirm()
        keep = datetime.timedelta(seconds=self._core.conf.core.purge_after)
        for found in self._core.store.deployments():
            with contextlib.suppress(NotFound):
                self._core.store.purge(found.name, keep)
        if time.monotonic() >= self._audit_at:
            self._audit_at = time.monotonic() + self._core.conf.bus.audit_interval
            self._audit()

    def _audit(self) -> None:
        for found in self._core.bouncer.audit(fix=True):
            what = "put right" if found.mendable else "not made by CNSMO, not touched"
            LOG.warning("broker: %s %s %s: %s", found.kind, found.name, found.problem, what)

    def _mark_down(self, deployment: str, host: str, service: str) -> None:
        def work(writer: Writer) -> None:
            row = writer.get(AGENT, joined(host, service))
            if row is None or State(row.body["state"]) in GONE:
                return
            if liveness.is_silent(writer, host, service, self._core.alive_within):
                seconds = self._core.alive_within.total_seconds()
                reason = f"no heartbeat for {seconds:g} s; the data plane may well be working"
                transition(writer, host, service, State.DOWN, reason, CORE)

        self._core.write(deployment, "core", work)

    def _run(self) -> None:
        while not self._stop.wait(self._core.conf.core.health_interval):
            try:
                self.look()
            except CnsmoError as exc:
                LOG.warning("health: %s", exc)
            except Exception:  # the thread must live on; the log has the reason
                LOG.exception("health: unforeseen")
