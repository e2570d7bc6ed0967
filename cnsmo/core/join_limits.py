# SPDX-License-Identifier: Apache-2.0
"""How much one source may ask for: requests by rate, connections by count."""

from __future__ import annotations

import collections
import ipaddress
import threading
import time
from collections.abc import Callable

REMEMBERED = 10_000
"""Sources that are remembered; who was not heard of for longest is forgotten."""
PREFIX = 64
"""Bits of an IPv6 address that tell one source from another: all others are its own to choose."""


def source_of(address: str) -> str:
    """Who counts as one: an IPv4 address, or an IPv6 network of 64 bits."""
    found = ipaddress.ip_address(plain(address))
    if found.version == 4:
        return str(found)
    return str(ipaddress.ip_network((found, PREFIX), strict=False))


def plain(address: str) -> str:
    """An address as people write it: without zone, and IPv4 as such where IPv6 carries it."""
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = found.ipv4_mapped if found.version == 6 else None
    return str(mapped or found)


class Rate:
    """A bucket of tokens for each source; one refills at ``rate`` per second, up to ``burst``."""

    def __init__(
        self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: collections.OrderedDict[str, tuple[float, float]] = collections.OrderedDict()

    def wait(self, source: str) -> float:
        """Take a token; 0, or the seconds after which there is one for the source."""
        with self._lock:
            now = self._clock()
            left, then = self._buckets.pop(source, (float(self._burst), now))
            left = min(self._burst, left + (now - then) * self._rate)
            granted = left >= 1
            self._buckets[source] = (left - granted, now)
            if len(self._buckets) > REMEMBERED:
                self._buckets.popitem(last=False)
        return 0.0 if granted else (1 - left) / self._rate


class Count:
    """How many connections each source has open."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._open: collections.Counter[str] = collections.Counter()

    def enter(self, source: str) -> bool:
        """One more; False when the source has too many already."""
        with self._lock:
            if self._open[source] >= self._most:
                return False
            self._open[source] += 1
            return True

    def leave(self, source: str) -> None:
        """One less."""
        with self._lock:
            self._open[source] -= 1
            if not self._open[source]:
                del self._open[source]
