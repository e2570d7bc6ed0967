# SPDX-License-Identifier: Apache-2.0
"""One line of a firewall as rules of nft(8): what it matches, counts, logs and does; pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Container

from cnsmo.model.errors import DriverError
from cnsmo.services.firewall.desired import DEFAULT, Action, Direction, Kind, Line, Rate
from cnsmo.services.firewall.drivers import nft_text as text
from cnsmo.services.firewall.terms import ICMP, ICMPV6, UNITS, WITH_PORTS
from cnsmo.services.kit import nft_values as values

TYPED = {ICMP: ("icmp", 4), ICMPV6: ("icmpv6", 6)}
"""Protocols with types: their name, and the one IP version that they belong to."""
REJECT = "do-reject"
VERDICTS = {
    Action.ACCEPT: "accept",
    Action.DROP: "drop",
    Action.REJECT: f"goto {text.slotted(REJECT)}",
}
METER_SIZE = 65535
"""Sources that a limit remembers at once; while it is full, new ones do not match."""


@dataclasses.dataclass
class Extras:
    """What lines need beside their rules: chains that log, sets that limit; as definitions."""

    meters: list[str] = dataclasses.field(default_factory=list)
    logs: list[str] = dataclasses.field(default_factory=list)

    def meter(self, version: int, limit: Rate) -> str:
        """A set of its own that remembers the sources of one line; its name."""
        name = f"meter-{len(self.meters)}"
        rate = text.rate(limit)
        family, address = ("ip", "ipv4_addr") if version == 4 else ("ip6", "ipv6_addr")
        seconds = max(UNITS[limit.unit], 60)
        self.meters.append(
            f"\tset {text.slotted(name)} {{\n\t\ttype {address}\n\t\tsize {METER_SIZE}\n"
            f"\t\tflags dynamic,timeout\n\t\ttimeout {seconds}s\n\t}}"
        )
        return f"update @{text.slotted(name)} {{ {family} saddr {rate} }}"

    def log(self, limit: Rate, words: str, verdict: str) -> str:
        """A chain that logs up to a rate, then does the verdict; its name."""
        name = f"log-{len(self.logs)}"
        rules = [f'{text.rate(limit)} log prefix "cnsmo {words} "', *filter(None, [verdict])]
        self.logs.append(chain(name, rules))
        return name


def chain(name: str, rules: list[str], head: str = "") -> str:
    """A chain's definition; with a head, one that hooks in, of which there is but one."""
    lines = [head, *rules] if head else rules
    return (
        f"\tchain {name if head else text.slotted(name)} {{\n"
        + "".join(f"\t\t{line}\n" for line in lines)
        + "\t}"
    )


def rules_of(
    line: Line, kind: Kind, direction: Direction, sets: Container[str], extras: Extras
) -> list[str]:
    """A line's rules: one, or one for each IP version where it limits and looks at no version.

    A packet that a line of an audit matches leaves the audit; elsewhere it meets the verdict.
    """
    limited = line.limit is not None and not line.version
    each = [dataclasses.replace(line, version=it) for it in (4, 6)] if limited else [line]
    ident = text.ident(line.rule)
    verdict = "return" if kind is Kind.AUDIT else _verdict(line.action)
    if line.log:
        audit = kind is Kind.AUDIT
        words = f"audit {ident}" if audit else ident
        verdict = f"goto {text.slotted(extras.log(line.log, words, '' if audit else verdict))}"
    found = []
    for it in each:
        if it.limit and not _possible(it):
            continue
        match = _match(it, direction, sets)
        if it.limit:
            match.append(extras.meter(it.version, it.limit))
        found.append(" ".join([*match, f'counter {verdict} comment "{ident}"']))
    return found


def default_rules(
    action: Action, kind: Kind, direction: Direction, instance: str, log: Rate | None
) -> list[str]:
    """What becomes of a packet that no line matches; an audit only says it."""
    audit = kind is Kind.AUDIT
    whose = f"{instance}/{direction}" if instance else str(direction)
    ident = text.ident(f"{whose}/{DEFAULT}")
    verdict = "" if audit else f" {_verdict(action)}"
    rules = [f'counter{verdict} comment "{ident}"']
    if log:
        words = f"audit {ident}" if audit else ident
        rules.insert(0, f'{text.rate(log)} log prefix "cnsmo {words} "')
    return rules


def _verdict(action: Action) -> str:
    if action not in VERDICTS:
        raise values.wrong("action", action)
    return VERDICTS[action]


def _possible(line: Line) -> bool:
    return line.protocol not in TYPED or line.version == TYPED[line.protocol][1]


def _match(line: Line, direction: Direction, sets: Container[str]) -> list[str]:
    far, near = ("saddr", "daddr") if direction is Direction.INBOUND else ("daddr", "saddr")
    if line.version not in (0, 4, 6):
        raise values.wrong("IP version", line.version)
    if not line.version and (line.peers is not None or line.network is not None or line.local):
        raise DriverError(f"{text.ident(line.rule)} looks at addresses of no IP version")
    family = "ip" if line.version == 4 else "ip6"
    found = []
    if line.peers is not None:
        name = text.set_name(line.peers)
        if name not in sets or not name.endswith(f"_{line.version}"):
            raise DriverError(f"{text.ident(line.rule)} needs the set {name}, which is not there")
        found.append(f"{family} {far} @{text.slotted(name)}")
    if line.network is not None:
        found.append(f"{family} {far} {values.span(line.network, line.version)[2]}")
    if line.local:
        found.append(
            f"{family} {near} {{ {', '.join(values.elements(line.local, line.version))} }}"
        )
    if line.version and not found:
        found.append(f"meta nfproto ipv{line.version}")
    return found + _protocol(line)


def _protocol(line: Line) -> list[str]:
    if line.protocol is None:
        if line.ports or line.types:
            raise DriverError(f"{text.ident(line.rule)} has ports or types without a protocol")
        return []
    number = values.number("protocol", line.protocol, 0, 255)
    if line.protocol in TYPED and line.version and line.version != TYPED[line.protocol][1]:
        raise DriverError(f"{text.ident(line.rule)}: protocol {number} is not IPv{line.version}'s")
    found = [f"meta l4proto {number}"]
    if line.ports:
        if line.protocol not in WITH_PORTS:
            raise DriverError(f"{text.ident(line.rule)}: protocol {number} has no ports")
        found.append(f"th dport {{ {text.ports(line.ports)} }}")
    if line.types:
        if line.protocol not in TYPED:
            raise DriverError(f"{text.ident(line.rule)}: protocol {number} has no types")
        found.append(f"{TYPED[line.protocol][0]} type {{ {text.types(line.types)} }}")
    return found
