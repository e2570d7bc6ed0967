# SPDX-License-Identifier: Apache-2.0
"""No accounts: the bus lives in one process, or all share the account of ``[bus] url``."""

from __future__ import annotations

from collections.abc import Iterable

from cnsmo.bus.broker import AskRoster, Broker
from cnsmo.model.messages import BusFinding


class NoBroker(Broker):
    """There is nothing to make, and so nothing to find."""

    has_accounts = False

    def prepare(self) -> None:
        """Nothing."""

    def admit(self, ident: str) -> str:
        """Everybody has ``[bus] url``."""
        return ""

    def revoke(self, ident: str) -> None:
        """Nothing: the host's secret is all that it has."""

    def audit(self, roster: AskRoster) -> list[BusFinding]:
        """Nothing."""
        return []

    def mend(self, findings: Iterable[BusFinding]) -> None:
        """Nothing."""
