# SPDX-License-Identifier: Apache-2.0
"""Removes hosts that come and go (``[host] ephemeral``) once they are gone without a word.

A cloud that takes a VM away does not ask it to say good-bye. What keeps a host from being taken
for gone when it is the core that nobody can reach: somebody else of its deployment has to have
been heard all the time.
"""

from __future__ import annotations

import contextlib
import datetime
import time

from oslo_log import log

from cnsmo.core.context import Core
from cnsmo.core.membership import Membership
from cnsmo.model.errors import Conflict, NotFound
from cnsmo.model.resource import HOST
from cnsmo.state import audit, liveness

LOG = log.getLogger(__name__)


class Departures:
    """What one core process has heard, and who is gone by it."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._membership = Membership(core)
        self._heard_since: dict[str, float] = {}

    def listen(self) -> None:
        """Note of which deployments somebody is heard."""
        now = time.monotonic()
        heard = self._core.liveness.heard(self._core.alive_within)
        self._heard_since = {name: self._heard_since.get(name, now) for name in heard}

    def look(self, deployment: str, listening: float) -> None:
        """Remove who is gone from a deployment of which somebody was heard all the time.

        listening: for how many seconds this core has been able to hear and to look.
        """
        patience = self._core.conf.core.gone_after
        since = self._heard_since.get(deployment)
        if since is not None and min(listening, time.monotonic() - since) >= patience:
            for host in self._core.liveness.vanished(deployment, _seconds(patience)):
                self._remove(deployment, host, patience)

    def _remove(self, deployment: str, host: str, patience: float) -> None:
        row = self._core.store.view(deployment).get(HOST, host)
        if row is None or not row.body.get("ephemeral"):
            return
        # It may have spoken meanwhile, or another core was quicker.
        with contextlib.suppress(Conflict, NotFound):
            self._membership.remove(
                deployment,
                host,
                audit.CORE.by("gone"),
                keep_tokens=True,  # by which the next one of its group comes
                only_if=lambda writer: liveness.is_vanished(writer, host, _seconds(patience)),
            )
            LOG.info(
                "deployment=%s host=%s is gone: not heard of for %g s", deployment, host, patience
            )


def _seconds(number: float) -> datetime.timedelta:
    return datetime.timedelta(seconds=number)
