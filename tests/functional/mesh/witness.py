# SPDX-License-Identifier: Apache-2.0
"""Counts at a host what reaches its firewall, and what gets past it."""

import json
from collections.abc import Mapping

from cnsmo.services.base import System

BEFORE, BEHIND = "prerouting priority raw", "input priority filter + 10"


class Witness:
    """A table of nftables that decides nothing; the host's firewall does not know it."""

    def __init__(
        self, system: System, before: Mapping[str, str], behind: Mapping[str, str]
    ) -> None:
        """What packets match, by a name for them; before: as they come in, behind: past it."""
        self._system = system
        lines = ["add table inet witness", "delete table inet witness", "add table inet witness"]
        lines += [f"add counter inet witness {name}" for name in (*before, *behind)]
        for chain, where, matches in (("first", BEFORE, before), ("last", BEHIND, behind)):
            lines.append(f"add chain inet witness {chain} {{ type filter hook {where}; }}")
            lines += [
                f"add rule inet witness {chain} {match} counter name {name}"
                for name, match in matches.items()
            ]
        system.run("nft", "-f", "-", stdin="\n".join(lines) + "\n")

    def counted(self) -> dict[str, int]:
        """Bytes by name; of packets, several may have been made one on their way."""
        shown = self._system.run("nft", "-j", "list", "counters", "table", "inet", "witness").stdout
        entries = [
            entry["counter"] for entry in json.loads(shown)["nftables"] if "counter" in entry
        ]
        return {entry["name"]: entry["bytes"] for entry in entries}
