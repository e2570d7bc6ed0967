# SPDX-License-Identifier: Apache-2.0
"""Flows that began while they were allowed, and are not any more: found by conntrack(8), and ended.

Once the kernel has forgotten a flow, its next packet is judged like a first one.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import re
import sys
from collections.abc import Callable, Mapping

from oslo_log import log

from cnsmo.model.names import IPAddress
from cnsmo.services.base import System
from cnsmo.services.firewall.desired import UNDERLAY, Action, Direction, FirewallDesired
from cnsmo.services.firewall.drivers import nft_forget
from cnsmo.services.firewall.drivers.nft_render import Ways
from cnsmo.services.firewall.judge import Packet, judge

LOG = log.getLogger(__name__)
_ENTRY = re.compile(r"ipv[46]\s+\d+\s+\S+\s+(?P<protocol>\d+)\s")
_FIELD = re.compile(r"\b(src|dst|sport|dport|srckey|dstkey|type|code|id)=(\S+)")
DNS = 53
SECONDS = 30.0


@dataclasses.dataclass(frozen=True)
class Flow:
    """A flow as its first packet was. ``fields``: what conntrack(8) calls it by."""

    protocol: int
    source: IPAddress
    target: IPAddress
    fields: Mapping[str, str]

    @property
    def port(self) -> int | None:
        """Of the destination."""
        return int(self.fields["dport"]) if "dport" in self.fields else None

    @property
    def line(self) -> str:
        """What nft_forget finds it by."""
        fields = (f"{key}={value}" for key, value in self.fields.items())
        return " ".join((str(self.protocol), str(self.source), str(self.target), *fields))


def end_flows(system: System, allowed: Callable[[Flow], bool]) -> int:
    """End the flows that are not allowed; how many.

    Where the package conntrack is not there, none are: they end by themselves.

    :raises ProgramError: when conntrack(8) fails.
    """
    if not system.has("conntrack"):
        return 0
    shown = system.run("conntrack", "-L", "-o", "extended", timeout=SECONDS).stdout
    flows = [flow for line in shown.splitlines() if (flow := read_flow(line))]
    lines = [flow.line for flow in flows if not allowed(flow)]
    if lines:
        program = (sys.executable, "-I", "-S", nft_forget.__file__)
        done = system.run(*program, stdin="\n".join(lines), ok=(0, 1), timeout=SECONDS)
        if done.code:
            LOG.warning("flows that cannot be ended: %s", done.stderr.strip()[-500:])
    return len(lines)


def read_flow(line: str) -> Flow | None:
    """A line of ``conntrack -L -o extended``; None where it is none, or addresses are translated.

    Translated flows belong to those who translate them (containers, guests): no business of ours.
    """
    entry = _ENTRY.match(line)
    if not entry:
        return None
    first: dict[str, str] = {}
    back: dict[str, str] = {}
    for key, value in _FIELD.findall(line):
        side = back if key in first else first
        side.setdefault(key, value)
    if (back.get("src"), back.get("dst")) != (first.get("dst"), first.get("src")):
        return None
    try:
        source, target = (ipaddress.ip_address(first.pop(key)) for key in ("src", "dst"))
    except (KeyError, ValueError):
        return None
    return Flow(int(entry["protocol"]), source, target, first)


def concerns(flow: Flow, left: set[str] | None) -> bool:
    """Whether one end of a flow is among those who left; None: everybody is looked at."""
    if left is None:
        return True
    ends = (flow.source, flow.target)
    if any(str(end) in left for end in ends):
        return True
    networks = [ipaddress.ip_network(item) for item in left if "/" in item]
    return any(end in network for end in ends for network in networks)


def permission(system: System, desired: FirewallDesired, ways: Ways) -> Callable[[Flow], bool]:
    """Whether the enforced rules would let a flow begin; what only passes through may always.

    :raises ProgramError: when the host's addresses cannot be read.
    """
    realms = _realms(system, desired)
    core = {it for each in ways.core.values() for it in each}
    servers = {it for each in (ways.nameservers or {}).values() for it in each}
    known: dict[tuple[Direction, Packet], bool] = {}

    def allowed(flow: Flow) -> bool:
        mine, own = realms.get(flow.target), realms.get(flow.source)
        if (mine is None) == (own is None):
            return True  # between others, or over the loopback
        target = str(flow.target)
        own_way = (target, flow.port) in core or (target in servers and flow.port == DNS)
        if own is not None and own_way:
            return True
        kind = int(flow.fields["type"]) if "type" in flow.fields else None
        if mine is not None:
            direction, realm, peer, local = Direction.INBOUND, mine, flow.source, flow.target
        else:
            direction, realm, peer, local = Direction.OUTBOUND, own or "", flow.target, flow.source
        packet = Packet(realm, peer, local, flow.protocol, flow.port, kind)
        if (direction, packet) not in known:  # most flows differ in their source's port alone
            known[direction, packet] = judge(desired, direction, packet).action is Action.ACCEPT
        return known[direction, packet]

    return allowed


def _realms(system: System, desired: FirewallDesired) -> dict[IPAddress, str]:
    """The realm of each of the host's addresses."""
    names = {interface: realm for realm, interface in desired.interfaces.items()}
    shown = json.loads(system.run("ip", "-j", "address", "show").stdout or "[]")
    return {
        ipaddress.ip_address(info["local"]): names.get(link.get("ifname", ""), UNDERLAY)
        for link in shown
        for info in link.get("addr_info", ())
        if "local" in info
    }
