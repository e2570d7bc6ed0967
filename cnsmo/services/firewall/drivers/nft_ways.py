# SPDX-License-Identifier: Apache-2.0
"""The agent's own way to the core, which no rule may close: whom it calls, and who knows the name.

What a name meant last is kept in a file: while names cannot be resolved, that is still right.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import time
from collections.abc import Iterable
from pathlib import Path

from cnsmo.model.errors import DriverError
from cnsmo.services.base import System
from cnsmo.services.firewall.drivers.nft_render import Ways
from cnsmo.services.kit.private_files import read_private, write_private

FRESH_SECONDS = 60.0
"""How long a resolved name is believed; members come and go more often than cores move."""
MOST_NAMESERVERS = 16
RESOLV_CONF = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")
"""Second: whom systemd-resolved asks, where the first only names its stub on the loopback."""


class CoreWays:
    """Finds out what the sets of the agent's own way have to hold."""

    def __init__(self, system: System, state_dir: Path) -> None:
        self._system = system
        self._file = state_dir / "ways.json"
        self._found: tuple[tuple[tuple[str, int], ...], float, Ways] | None = None

    def find(self) -> Ways:
        """Addresses and ports of the core, and of nameservers where one was given by name."""
        asked: tuple[tuple[str, int], ...] = self._system.ways
        now = time.monotonic()
        if self._found and self._found[0] == asked and now < self._found[1]:
            return self._found[2]
        known = self._known()
        core: dict[int, set[tuple[str, int]]] = {4: set(), 6: set()}
        names = {}
        for host, port in asked:
            addresses = _literal(host)
            if not addresses:
                addresses = names[host] = _resolved(host) or known.get(host, [])
            for address in addresses:
                core[6 if ":" in address else 4].add((address, int(port)))
        if names and names != known:
            write_private(self._file, json.dumps(names))
        ways = Ways(
            core={version: tuple(sorted(found)) for version, found in core.items()},
            nameservers=self._nameservers() if names else None,
        )
        self._found = (asked, now + FRESH_SECONDS, ways)
        return ways

    def _known(self) -> dict[str, list[str]]:
        try:
            read = json.loads(read_private(self._file) or "{}")
            return {str(host): [str(_address(it)) for it in found] for host, found in read.items()}
        except (ValueError, TypeError, AttributeError, DriverError):
            return {}  # torn: the names are asked anew

    def _nameservers(self) -> dict[int, tuple[str, ...]]:
        shown = self._system.run("cat", *RESOLV_CONF, ok=(0, 1)).stdout
        return nameservers(shown.splitlines())


def nameservers(lines: Iterable[str]) -> dict[int, tuple[str, ...]]:
    """By IP version, what resolv.conf(5) names; those on the loopback need no door."""
    found: dict[int, dict[str, None]] = {4: {}, 6: {}}
    for line in lines:
        words = line.split()
        if len(words) < 2 or words[0] != "nameserver":
            continue
        try:
            address = _address(words[1])
        except ValueError:
            continue
        if not address.is_loopback:
            found[address.version][str(address)] = None
    return {version: tuple(known)[:MOST_NAMESERVERS] for version, known in found.items()}


def _literal(host: str) -> list[str]:
    try:
        return [str(_address(host.strip("[]")))]
    except ValueError:
        return []


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address; the interface of a link-local one is none of a set's."""
    return ipaddress.ip_address(text.partition("%")[0])


def _resolved(host: str) -> list[str]:
    try:
        answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return sorted({str(_address(str(answer[4][0]))) for answer in answers})
