# SPDX-License-Identifier: Apache-2.0
"""Balanced flows as conntrack(8) lists and ends them. Standard library only; pure."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterable

OVER = ("TIME_WAIT", "CLOSE")
"""States of a connection that is none any more."""
_FIELD = re.compile(r"(src|dst|sport|dport)=(\S+)")


@dataclasses.dataclass(frozen=True)
class Flows:
    """Those that were sent to a server. ``opening``: only those that it has not answered yet."""

    version: int
    protocol: str
    address: str
    port: int
    opening: bool = False

    @property
    def key(self) -> str:
        """The server's, see Target."""
        return f"{self.address} {self.port}"


@dataclasses.dataclass(frozen=True)
class Flow:
    """One. ``server``: key of where it was sent; ``address``, ``port``: where it arrived.
    ``over``: only its memory is left."""

    server: str
    address: str
    port: int
    over: bool


def read(lines: Iterable[str]) -> list[Flow]:
    """What ``conntrack -L`` lists."""
    found = []
    for line in lines:
        fields: dict[str, list[str]] = {}
        for key, value in _FIELD.findall(line):
            fields.setdefault(key, []).append(value)
        if any(len(fields.get(key, ())) != 2 for key in ("src", "dst", "sport", "dport")):
            continue
        server = f"{fields['src'][1]} {fields['sport'][1]}"
        over = any(f" {state} " in line for state in OVER)
        found.append(Flow(server, fields["dst"][0], int(fields["dport"][0]), over))
    return found


def list_commands(protocol: str, ports: Iterable[int]) -> list[tuple[str, ...]]:
    """What conntrack(8) is run with to list the flows that arrived at these ports."""
    words = ("conntrack", "-L", "-p", protocol, "--dst-nat", "--orig-port-dst")
    return [(*words, str(port)) for port in ports]


def end_commands(ending: Iterable[Flows], ports: Collection[int]) -> list[tuple[str, ...]]:
    """What it is run with to end flows that arrived at these ports."""
    found = []
    for flows in ending:
        words = ["conntrack", "-D", "-f", f"ipv{flows.version}", "-p", flows.protocol]
        words += ["--dst-nat", "--reply-src", flows.address, "--reply-port-src", str(flows.port)]
        words += ["--state", "SYN_SENT"] if flows.opening else []
        found += [(*words, "--orig-port-dst", str(port)) for port in ports]
    return found
