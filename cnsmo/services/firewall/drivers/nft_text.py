# SPDX-License-Identifier: Apache-2.0
"""Single values as nft(8) reads them; each is checked here, so that none can add a line; pure.

What compile() makes is safe already. This is the last door before the kernel, and looks again.
"""

from __future__ import annotations

import functools
import hashlib
import ipaddress
import re
from collections.abc import Iterable

from cnsmo.model.errors import DriverError
from cnsmo.services.firewall.desired import Rate
from cnsmo.services.firewall.drivers.guard import SLOTS
from cnsmo.services.firewall.terms import UNITS, joined_ranges

IDENT_CHARACTERS = 100
"""A comment holds 127 bytes, a log prefix 126: room for what stands before a rule's name."""
CHECKED = 200_000
"""Addresses that are remembered as checked."""
_IDENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@+()-]{0,399}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_SET = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,200}_[46]")
_INTERFACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")
_LABEL = re.compile(r"[A-Za-z0-9._/-]{1,400}")


def wrong(what: str, value: object) -> DriverError:
    """The error for a value that must not reach nft(8)."""
    return DriverError(f"the firewall's {what} {ascii(value)[:80]} cannot be rendered")


def ident(rule: object) -> str:
    """A rule's name as comment and in the log; a long one is cut and ends in a hash."""
    if not isinstance(rule, str) or not _IDENT.fullmatch(rule):
        raise wrong("rule", rule)
    if len(rule) <= IDENT_CHARACTERS:
        return rule
    return f"{rule[: IDENT_CHARACTERS - 9]}~{hashlib.sha256(rule.encode()).hexdigest()[:8]}"


def realm_name(realm: object) -> str:
    """A VPN's name."""
    return _matching(_NAME, "realm", realm)


def set_name(name: object) -> str:
    """A set of addresses; it can be mistaken for none of the driver's own, which end in -4, -6."""
    return _matching(_SET, "set", name)


def slotted(name: str) -> str:
    """A chain or set as it is called in the kernel; guard.in_slot() makes the other slot's name."""
    return f"{name}.{SLOTS[0]}"


def interface(name: object) -> str:
    """An interface as it is compared, never a pattern, in quotes."""
    return f'"{_matching(_INTERFACE, "interface", name)}"'


def label_comment(label: object) -> str:
    """Whose table it is; a comment holds 127 bytes."""
    return f"cnsmo {_matching(_LABEL, 'label', label)}"[:127]


def number(what: str, value: object, low: int, high: int) -> str:
    """A number between low and high."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise wrong(what, value)
    return str(int(value))


def rate(limit: Rate) -> str:
    """So many packets per unit; all of one unit's may come at once."""
    if limit.unit not in UNITS:
        raise wrong("unit of time", limit.unit)
    count = number("rate", limit.count, 1, 10**9)
    return f"limit rate {count}/{limit.unit} burst {count} packets"


def ports(ranges: Iterable[tuple[int, int]]) -> str:
    """Ports as an anonymous set; ranges that touch are one."""
    spans = [(_port(first), _port(last)) for first, last in ranges]
    for span in spans:
        if span[0] > span[1]:
            raise wrong("range of ports", span)
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in joined_ranges(spans))


def _port(value: object) -> int:
    return int(number("port", value, 0, 65535))


def types(numbers: Iterable[int]) -> str:
    """ICMP types as an anonymous set."""
    return ", ".join(number("ICMP type", value, 0, 255) for value in sorted(set(numbers)))


@functools.lru_cache(maxsize=65536)
def span(text: str, version: int) -> tuple[int, int, str]:
    """First and last address of a network as numbers, and its one form; a host has no length."""
    try:
        found = ipaddress.ip_network(text) if "/" in text else ipaddress.ip_address(text)
    except (TypeError, ValueError):
        raise wrong("address", text) from None
    if found.version != version or getattr(found, "scope_id", None):
        raise wrong(f"IPv{version} address", text)
    if isinstance(found, ipaddress.IPv4Address | ipaddress.IPv6Address):
        return int(found), int(found), str(found)
    first, last = int(found.network_address), int(found.broadcast_address)
    return first, last, str(found.network_address) if first == last else str(found)


def elements(texts: Iterable[str], version: int) -> tuple[str, ...]:
    """Addresses and networks in their one form, sorted, none within another.

    So they never overlap, need no auto-merge, and the kernel lists them as they were given.
    """
    spans = sorted({span(text, version) for text in texts}, key=lambda it: (it[0], -it[1]))
    kept: list[str] = []
    end = -1
    for _first, last, text in spans:
        if last > end:
            kept.append(text)
            end = last
    return tuple(kept)


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


def _matching(pattern: re.Pattern[str], what: str, value: object) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise wrong(what, value)
    return value
