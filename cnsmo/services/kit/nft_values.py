# SPDX-License-Identifier: Apache-2.0
"""Single values as nft(8) reads them, for every driver that renders rules; pure.

What compile() makes is safe already. This is the last door before the kernel, and looks again: no
value can add a line.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Iterable

from cnsmo.model.errors import DriverError

_INTERFACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")
_LABEL = re.compile(r"[A-Za-z0-9._/-]{1,400}")


def wrong(what: str, value: object) -> DriverError:
    """The error for a value that must not reach nft(8)."""
    return DriverError(f"the {what} {ascii(value)[:80]} cannot be rendered for nft")


def matching(pattern: re.Pattern[str], what: str, value: object) -> str:
    """A text that is wholly as the pattern says."""
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise wrong(what, value)
    return value


def interface(name: object) -> str:
    """An interface as it is compared, never a pattern, in quotes."""
    return f'"{matching(_INTERFACE, "interface", name)}"'


def label_comment(label: object) -> str:
    """Whose table it is; a comment holds 127 bytes."""
    return f"cnsmo {matching(_LABEL, 'label', label)}"[:127]


def number(what: str, value: object, low: int, high: int) -> str:
    """A number between low and high."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise wrong(what, value)
    return str(int(value))


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
