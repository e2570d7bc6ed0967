# SPDX-License-Identifier: Apache-2.0
"""No accounts: the bus lives in one process, or all share the account of ``[bus] url``."""

from __future__ import annotations

from collections.abc import Iterable

from oslo_config import cfg

from cnsmo.bus import transport
from cnsmo.bus.broker import AskRoster, Broker
from cnsmo.model.errors import InvalidRequest
from cnsmo.model.messages import BusFinding


class NoBroker(Broker):
    """There is nothing to make, and so nothing to find."""

    has_accounts = False

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        super().__init__(conf)
        self._conf = conf

    def check(self) -> None:
        """:raises InvalidRequest: when hosts would share an account that nobody meant them to."""
        if not transport.is_in_process(self._conf) and not self._conf.bus.shared_account:
            raise InvalidRequest(
                "[bus] broker = none: all agents would share the account in [bus] url, and whoever "
                "has one VM could write to every queue, as the operator does. Give each an account "
                "of its own (broker = rabbitmq), or say that it shall be so (shared_account = true)"
            )

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
