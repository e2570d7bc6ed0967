# SPDX-License-Identifier: Apache-2.0
"""A driver for the VPN that a test can stop in the middle of its work."""

import os
import threading
from pathlib import Path

from cnsmo.services.vpn.desired import VpnDesired
from cnsmo.services.vpn.drivers.noop import NoopDriver


class GatedDriver(NoopDriver):
    """As ``noop``; but where $CNSMO_GATE is a FIFO, it says so there and never comes back."""

    name = "gated"

    def apply(self, desired: VpnDesired) -> list[str]:
        """Half of the work, the gate, the other half."""
        gate = Path(os.environ["CNSMO_GATE"])
        if gate.exists():
            self.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.state_dir / "desired.json").write_text('{"peers": [')
            gate.write_text("half done")
            threading.Event().wait()
        return super().apply(desired)
