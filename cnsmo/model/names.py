# SPDX-License-Identifier: Apache-2.0
"""Names and addresses as types: validated where they enter, safe wherever they are rendered.

Names are DNS labels (RFC 1123): plain ASCII, so that no look-alike letter, control character or
line break can reach a configuration file, a command line or another person's eye.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
MIN_PREFIX = {4: 8, 6: 16}
"""The largest network that a host's interface may be in, by IP version."""
ALL = "all"
"""The reserved group that every host belongs to."""

THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")
"""No address of a host (RFC 1122, 3.2.1.3); Linux takes the first one for itself."""

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
IPInterface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def check_label(value: str) -> str:
    """Return value when it is a DNS label.

    :raises ValueError: otherwise; the text shows the offending value with its escapes.
    """
    if not LABEL.fullmatch(value):
        raise ValueError(
            f"{ascii(value)} is not a name: use 1 to 63 of a-z, 0-9 and '-', "
            "beginning and ending with a letter or a digit"
        )
    return value


def check_group(value: str) -> str:
    """Return value when it may name a group that a token grants."""
    check_label(value)
    if value == ALL:
        raise ValueError("'all' is every host of the deployment; it is never granted by a token")
    return value


def _text(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("an address or a network is expected, as 10.66.0.0/16")
    if not value.isascii() or "%" in value:
        raise ValueError(f"{ascii(value)} is not an address")
    return value


def printable(text: str) -> str:
    """The text without what could play tricks on a terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)


def check_network(value: str) -> str:
    """Return the canonical form of a network in CIDR notation; host bits are an error."""
    try:
        network = ipaddress.ip_network(value, strict=True)
    except ValueError as exc:
        try:
            meant = ipaddress.ip_network(value, strict=False)
        except ValueError:
            raise ValueError(
                f"{ascii(value)} is not a network: write address/prefix, as 10.66.0.0/16"
            ) from exc
        raise ValueError(f"{value} has host bits set: did you mean {meant}?") from exc
    if "/" not in value:
        raise ValueError(f"{value} has no prefix length: write address/prefix, as 10.66.0.0/16")
    return str(network)


def check_interface(value: str) -> str:
    """Return the canonical form of a host's address with its prefix length, as 10.1.0.5/24."""
    found = ipaddress.ip_interface(value)
    if found.ip.is_loopback or found.ip.is_multicast or found.ip.is_unspecified:
        raise ValueError(f"{value} is no address of a host")
    if found.network.prefixlen < MIN_PREFIX[found.version]:
        raise ValueError(f"{value} claims a network that is too large to be a host's own")
    return str(found)


def check_address(value: str) -> str:
    """Return the canonical form of a single address."""
    try:
        return str(ipaddress.ip_address(value))
    except ValueError as exc:
        raise ValueError(f"{ascii(value)} is not an IP address") from exc


def is_reachable(address: IPAddress) -> bool:
    """Whether an address can be a host's own for others: they call it, and let it in."""
    unusable = (
        address.is_loopback
        or address.is_unspecified
        or address.is_multicast
        or address.is_link_local
        or address.is_reserved  # the broadcast address, and IPv4 within IPv6, among others
    )
    return not unusable and address not in THIS_NETWORK


Label = Annotated[str, AfterValidator(check_label)]
Group = Annotated[str, AfterValidator(check_label)]
GrantedGroup = Annotated[str, AfterValidator(check_group)]
Network = Annotated[str, BeforeValidator(_text), AfterValidator(check_network)]
Interface = Annotated[str, BeforeValidator(_text), AfterValidator(check_interface)]
Address = Annotated[str, BeforeValidator(_text), AfterValidator(check_address)]
