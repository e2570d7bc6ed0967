# SPDX-License-Identifier: Apache-2.0
"""Base of the drivers of the entry point group ``cnsmo.firewall.drivers``."""

from __future__ import annotations

from cnsmo.services.base import Driver
from cnsmo.services.firewall.desired import FirewallDesired


class FirewallDriver(Driver[FirewallDesired]):
    """Keeps the firewall of one host."""
