# SPDX-License-Identifier: Apache-2.0
"""Flows that began while they were allowed, and are not any more: found and ended by conntrack(8).

Once the kernel has forgotten a flow, its next packet is judged like a first one.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import re
from collections.abc import Callable, Mapping

from cnsmo.model.names import IPAddress
from cnsmo.services.base import System
from cnsmo.services.firewall.desired import UNDERLAY, Action, Direction, FirewallDesired
from cnsmo.services.firewall.drivers.nft_render import Ways
from cnsmo.services.firewall.judge import Packet, judge
from cnsmo.services.firewall.terms import ICMP, ICMPV6

_ENTRY = re.compile(r"ipv[46]\s+\d+\s+\S+\s+(?P<protocol>\d+)\s")
_FIELD = re.compile(r"(src|dst|sport|dport|type|code|id)=(\S+)")
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
    def command(self) -> str:
        """The command that deletes it."""
        words = ["-D", "-f", f"ipv{self.source.version}", "-p", str(self.protocol)]
        words += ["-s", str(self.source), "-d", str(self.target)]
        option = {"sport": "--sport", "dport": "--dport"}
        if self.protocol in (ICMP, ICMPV6):
            option = {"type": "--icmp-type", "code": "--icmp-code", "id": "--icmp-id"}
            if self.protocol == ICMPV6:
                option = {key: word.replace("icmp", "icmpv6") for key, word in option.items()}
        for key, word in option.items():
            if key in self.fields:
                words += [word, self.fields[key]]
        return " ".join(words)


def end_flows(system: System, allowed: Callable[[Flow], bool]) -> int:
    """End the flows that are not allowed; how many.

    Where the package conntrack is not there, none are: they end by themselves.

    :raises ProgramError: when conntrack(8) fails.
    """
    if not system.has("conntrack"):
        return 0
    shown = system.run("conntrack", "-L", "-o", "extended", timeout=SECONDS).stdout
    flows = [flow for line in shown.splitlines() if (flow := read_flow(line))]
    commands = [flow.command for flow in flows if not allowed(flow)]
    if commands:
        system.run(
            "conntrack", "-R", "-", stdin="\n".join(commands) + "\n", ok=(0, 1), timeout=SECONDS
        )
    return len(commands)


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
        return judge(desired, direction, packet).action is Action.ACCEPT

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
