# SPDX-License-Identifier: Apache-2.0
"""The periodic work of the cores: each piece is claimed in the database, done, and due again.

So it is done by one core, whichever is free, and by another one when that dies in the middle.
"""

from __future__ import annotations

import datetime
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping

from oslo_log import log

from cnsmo.core.context import Core
from cnsmo.core.health import Health
from cnsmo.model.errors import CnsmoError, NotFound
from cnsmo.state.claims import Claim, Claims

LOG = log.getLogger(__name__)
AT_ONCE = 16
"""How many pieces of work are claimed together."""
TICKS = 4
"""How often, within the time after which work is due again, a core looks whether some is."""
HEALTH, REMOVALS, PURGE, ENDED, BROKER = "health", "removals", "purge", "ended", "broker"
OF_EACH = (HEALTH, PURGE)
"""Works that each deployment has."""
OF_ALL = (REMOVALS, ENDED, BROKER)


class Periodic:
    """The periodic work that one core process does."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._health = Health(core)
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"[:190]
        self._claims = Claims(core.store, self.owner, core.conf.core.claim_life)
        self._works: Mapping[str, Callable[[str], None]] = {
            HEALTH: lambda name: self._health.look(name, self.listening),
            PURGE: self._purge,
            REMOVALS: lambda _name: core.removals.confirm(),
            ENDED: lambda _name: self._purge_ended(),
            BROKER: lambda _name: self._audit(),
        }
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._began = self._looked = time.monotonic()
        self._told: set[str] = set()
        """What is wrong with the audit of deleted deployments, and was said."""

    @property
    def alive(self) -> bool:
        """Whether it is at work."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def listening(self) -> float:
        """For how many seconds this core has been able to hear, and to look at the database."""
        return time.monotonic() - self._began

    def start(self) -> None:
        """Begin. For the first ``[core] grace`` seconds nobody is said to be down: this core may
        have been away itself, and the agents get time to find it again."""
        self._began = self._looked = time.monotonic()
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="periodic", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End, after the piece of work that is under way."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def tick(self) -> None:
        """Do all the work that is due, and nobody's."""
        self._claims.provide(OF_EACH, OF_ALL)
        if time.monotonic() - self._looked >= max(self._core.rules.late_after, 2 * self._rhythm):
            LOG.warning("this core could not look for a while: nobody is down before it has heard")
            self._began = time.monotonic()
        self._looked = time.monotonic()
        self._health.listen()
        while claimed := self._claims.take(self._due_works(), AT_ONCE):
            for claim in claimed:
                if self._stop.is_set():
                    self._claims.done(claim, 0)
                elif self._claims.holds(claim):
                    self._do(claim)
                    self._looked = time.monotonic()
            if self._stop.is_set():
                return

    @property
    def _rhythm(self) -> float:
        """Seconds between two looks for what is due."""
        told = self._core.conf.core
        return float(min(told.health_interval, told.purge_interval) / TICKS)

    def _due_works(self) -> list[str]:
        """What this core does; one that just came leaves the judging to those who listened."""
        judges = self.listening >= self._core.rules.grace
        return [work for work in self._works if judges or work != HEALTH]

    def _do(self, claim: Claim) -> None:
        LOG.debug("claim=%s number=%d deployment=%s", claim.name, claim.number, claim.deployment)
        try:
            self._works[claim.work](claim.deployment)
        except NotFound:
            LOG.debug("deployment=%s was deleted meanwhile", claim.deployment)
        except CnsmoError as exc:
            LOG.warning("%s of %s: %s", claim.work, claim.deployment or "all", exc)
        except Exception:  # the other work must go on; the log has the reason
            LOG.exception("%s of %s: unforeseen", claim.work, claim.deployment or "all")
        self._claims.done(claim, self._pause(claim.work))

    def _pause(self, work: str) -> float:
        """Seconds after which it is due again."""
        told = self._core.conf
        pauses = {PURGE: told.core.purge_interval, ENDED: told.core.purge_interval}
        pauses[BROKER] = max(told.bus.audit_interval, told.core.health_interval)
        return float(pauses.get(work, told.core.health_interval))

    def _purge(self, deployment: str) -> None:
        keep = datetime.timedelta(seconds=self._core.conf.core.audit_keep)
        forgotten = self._core.store.purge_audit(deployment, keep)
        self._core.audited(deployment, forgotten.lines)
        keep = datetime.timedelta(seconds=self._core.conf.core.purge_after)
        self._core.store.purge(deployment, keep)

    def _purge_ended(self) -> None:
        keep = datetime.timedelta(seconds=self._core.conf.core.audit_keep)
        forgotten, problems = self._core.store.purge_ended(keep)
        for told in forgotten:
            LOG.info("the audit of a deleted deployment is forgotten: %s", told)
        for problem in sorted(set(problems) - self._told):
            self._told.add(problem)
            LOG.error("the audit of a deleted deployment was changed by no core: %s", problem)

    def _audit(self) -> None:
        for found in self._core.bouncer.audit(fix=True):
            what = "put right" if found.mendable else "not made by CNSMO, not touched"
            LOG.warning("broker: %s %s %s: %s", found.kind, found.name, found.problem, what)

    def _run(self) -> None:
        while not self._stop.wait(self._rhythm):
            try:
                self.tick()
            except CnsmoError as exc:
                LOG.warning("periodic work: %s", exc)
            except Exception:  # the thread must live on; the log has the reason
                LOG.exception("periodic work: unforeseen")
