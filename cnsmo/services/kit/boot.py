# SPDX-License-Identifier: Apache-2.0
"""The time since this host was started, for what is on the disk: no one can set this clock, it goes
on while the host sleeps, and what it says is worth nothing after the next start. Standard library
only."""

from __future__ import annotations

import functools
import time
from pathlib import Path


def now() -> float:
    """Seconds since the host was started, see CLOCK_BOOTTIME in clock_gettime(2)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@functools.cache
def boot_id() -> str:
    """Another one after each start, see random(4)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
