# SPDX-License-Identifier: Apache-2.0
"""Who sees whom in a VPN, from what its members observed; pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnsmo.model.messages import HostStatus

RELAYED, NONE, UNKNOWN = "relayed", "none", "unknown"
"""Paths that no driver reports: through another member, no way at all, and nobody knows."""
PEER = "peer"
"""The path to a peer of which the driver tells nothing else."""


@dataclasses.dataclass(frozen=True)
class Link:
    """How one member sees another.

    ``path``: what the driver says of the peer (direct, calls-us, relay, ...), or one of those
    above. ``via``: the member that passes packets on. ``handshake_age`` in seconds, as of now;
    None where there was none. ``shakes``: the driver reports handshakes. rx, tx: bytes.
    """

    source: str
    target: str
    path: str
    via: str = ""
    endpoint: str = ""
    handshake_age: float | None = None
    shakes: bool = False
    rx: int | None = None
    tx: int | None = None


def links(hosts: Iterable[HostStatus], instance: str, members: Iterable[str]) -> list[Link]:
    """The links of every member to every other one, and to peers that are members no more."""
    names = sorted(members)
    by_name = {host.name: host for host in hosts}
    found: list[Link] = []
    for source in names:
        seen, observed_age = _observation(by_name.get(source), instance)
        peers = (seen or {}).get("peers") or {}
        found += [
            _link(source, target, seen, peers.get(target), observed_age)
            for target in sorted({*names, *peers} - {source})
        ]
    return found


def cell(link: Link) -> str:
    """A link in a word or two: the handshake's age where there is one."""
    from cnsmo.manage.cells import age

    if link.path == UNKNOWN:
        return "?"
    if link.path == RELAYED:
        return f"via {link.via}"
    if link.path == NONE or not link.shakes:
        return "none" if link.path == NONE else link.path
    return "quiet" if link.handshake_age is None else age(link.handshake_age)


def _observation(host: HostStatus | None, instance: str) -> tuple[dict[str, Any] | None, float]:
    for agent in host.agents if host else ():
        if agent.service == "vpn" and agent.observation and instance in agent.observation:
            return agent.observation[instance], agent.observed_age or 0.0
    return None, 0.0


def _link(
    source: str,
    target: str,
    seen: dict[str, Any] | None,
    peer: dict[str, Any] | None,
    observed_age: float,
) -> Link:
    if seen is None:
        return Link(source, target, UNKNOWN)
    if peer is None:
        via = (seen.get("relayed") or {}).get(target)
        return Link(source, target, RELAYED, via=via) if via else Link(source, target, NONE)
    age = peer.get("handshake_age")
    return Link(
        source,
        target,
        path=peer.get("path") or PEER,
        endpoint=peer.get("endpoint") or "",
        handshake_age=None if age is None else round(age + observed_age, 1),
        shakes="handshake_age" in peer,
        rx=peer.get("rx"),
        tx=peer.get("tx"),
    )
