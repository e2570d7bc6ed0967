# SPDX-License-Identifier: Apache-2.0
"""A driver that keeps the firewall it was told in a file; see kit.noop."""

from __future__ import annotations

from typing import Any

from cnsmo.services.firewall.desired import FirewallDesired
from cnsmo.services.firewall.driver import FirewallDriver
from cnsmo.services.kit.noop import Noop


class NoopDriver(Noop[FirewallDesired], FirewallDriver):
    """A firewall that lets everything pass."""

    def detail(self, desired: FirewallDesired) -> dict[str, Any]:
        sets = {name: {"count": len(items)} for name, items in desired.sets.items()}
        return {"rules": [], "sets": sets}
