# SPDX-License-Identifier: Apache-2.0
"""Sees to it that who was removed is thrown out at the broker, too, whatever happens meanwhile."""

from __future__ import annotations

import threading

from oslo_log import log

from cnsmo.bus.broker import Broker, Roster
from cnsmo.model.errors import CnsmoError
from cnsmo.model.messages import BusFinding
from cnsmo.state.identities import Identities

LOG = log.getLogger(__name__)


class Bouncer:
    """Revokes accounts after a farewell; compares the broker with the identities."""

    def __init__(self, broker: Broker, identities: Identities, farewell: float) -> None:
        """farewell: seconds for which a removed host may still hear that it was removed."""
        self._broker = broker
        self._identities = identities
        self._farewell = farewell

    def expel(self, ident: str) -> None:
        """Revoke a removed host's account when its time has come; returns at once.

        What goes wrong, and what this process does not live to see, the next audit makes good.
        """
        if not self._broker.has_accounts:
            return
        timer = threading.Timer(self._farewell, self._revoke, [ident])
        timer.daemon = True
        timer.start()

    def audit(self, fix: bool) -> list[BusFinding]:
        """Where the broker differs from what it should be; fix: put it right, too.

        :raises Unavailable: when the broker is not reachable.
        """
        found = self._broker.audit(self._roster)
        if fix and found:
            self._broker.mend(found)
        return found

    def _roster(self) -> Roster:
        return Roster(*self._identities.everybody(self._farewell))

    def _revoke(self, ident: str) -> None:
        try:
            self._broker.revoke(ident)
        except CnsmoError as exc:
            LOG.warning("id=%s is not revoked at the broker yet: %s", ident, exc)
        except Exception:  # of a driver; the audit tries again
            LOG.exception("id=%s is not revoked at the broker yet", ident)
        else:
            LOG.info("id=%s has no account at the broker any more", ident)
