# SPDX-License-Identifier: Apache-2.0
"""A firewall's own values as nft(8) reads them, checked; more are in kit.nft_values; pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from cnsmo.services.firewall.desired import Rate
from cnsmo.services.firewall.drivers.guard import SLOTS
from cnsmo.services.firewall.terms import UNITS, joined_ranges
from cnsmo.services.kit.nft_values import elements, matching, number, span, wrong

IDENT_CHARACTERS = 100
"""A comment holds 127 bytes, a log prefix 126: room for what stands before a rule's name."""
CHECKED = 200_000
"""Addresses that are remembered as checked."""
_IDENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@+()-]{0,399}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_SET = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,200}_[46]")


def ident(rule: object) -> str:
    """A rule's name as comment and in the log; a long one is cut and ends in a hash."""
    if not isinstance(rule, str) or not _IDENT.fullmatch(rule):
        raise wrong("rule", rule)
    if len(rule) <= IDENT_CHARACTERS:
        return rule
    return f"{rule[: IDENT_CHARACTERS - 9]}~{hashlib.sha256(rule.encode()).hexdigest()[:8]}"


def realm_name(realm: object) -> str:
    """A VPN's name."""
    return matching(_NAME, "realm", realm)


def set_name(name: object) -> str:
    """A set of addresses; it can be mistaken for none of the driver's own, which end in -4, -6."""
    return matching(_SET, "set", name)


def slotted(name: str) -> str:
    """A chain or set as it is called in the kernel; guard.in_slot() makes the other slot's name."""
    return f"{name}.{SLOTS[0]}"


def rate(limit: Rate) -> str:
    """So many packets per unit; all of one unit's may come at once."""
    if limit.unit not in UNITS:
        raise wrong("unit of time", limit.unit)
    count = number("rate", limit.count, 1, 10**9)
    return f"limit rate {count}/{limit.unit} burst {count} packets"


def ports(ranges: Iterable[tuple[int, int]]) -> str:
    """Ports as an anonymous set; ranges that touch are one."""
    spans = tuple(ranges)
    texts = [_ports(first, last) for first, last in spans]
    if len(spans) > 1:
        texts = [_ports(first, last) for first, last in joined_ranges(spans)]
    return ", ".join(texts)


def _ports(first: int, last: int) -> str:
    low = number("port", first, 0, 65535)
    if first == last:
        return low
    high = number("port", last, 0, 65535)
    if first > last:
        raise wrong("range of ports", (first, last))
    return f"{low}-{high}"


def types(numbers: Iterable[int]) -> str:
    """ICMP types as an anonymous set."""
    return ", ".join(number("ICMP type", value, 0, 255) for value in sorted(set(numbers)))


class Checked:
    """Addresses that were found to be in their one form: of thousands, one is new each time."""

    def __init__(self, version: int) -> None:
        self._version = version
        self._known: set[str] = set()

    def elements(self, texts: tuple[str, ...]) -> tuple[str, ...]:
        """As elements(); addresses without networks stay in the order in which they are."""
        distinct = set(texts)
        fresh = distinct - self._known
        right = all("/" not in it and span(it, self._version)[2] == it for it in fresh)
        if not right or len(distinct) < len(texts):
            return elements(texts, self._version)
        if len(self._known) > CHECKED:
            self._known.clear()
        self._known |= fresh
        return texts
