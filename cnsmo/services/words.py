# SPDX-License-Identifier: Apache-2.0
"""Words that the specs of several services use, as types: checked, and brought to one form."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from cnsmo.model.names import Group, check_address, check_label, check_network

UNDERLAY_WORD = "underlay"
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


def as_list(value: Any) -> Any:
    """A single thing is a list of one."""
    return value if isinstance(value, list | tuple) else [value]


def check_via(value: Any) -> str:
    """``underlay``, or ``vpn:NAME``; a bare name is a VPN's."""
    if not isinstance(value, str):
        raise ValueError("underlay or the name of a VPN is expected")
    if value == UNDERLAY_WORD:
        return value
    return f"vpn:{check_label(value.removeprefix('vpn:'))}"


def check_source(value: Any) -> str:
    """A network; an address is the network that holds only it."""
    if not isinstance(value, str) or not value.isascii():
        raise ValueError("an address or a network is expected, as 192.0.2.0/24")
    if "/" in value:
        return check_network(value)
    address = ipaddress.ip_address(check_address(value))
    return f"{address}/{address.max_prefixlen}"


def check_seconds(value: Any) -> float:
    """A duration: seconds, or a number and a unit."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(
            f"{ascii(value)} is no duration: write seconds, or a number and a unit: "
            "200ms, 2s, 5m, 1h"
        )
    return float(found[1]) * _SECONDS[found[2]]


def check_driver(value: str) -> str:
    """A driver's name: a label, that may have underscores as the names of clouds' things do."""
    check_label(value.replace("_", "-"))
    return value


DriverName = Annotated[str, AfterValidator(check_driver)]
Groups = Annotated[tuple[Group, ...], BeforeValidator(as_list)]
Source = Annotated[str, BeforeValidator(check_source)]
Via = Annotated[str, BeforeValidator(check_via)]
Seconds = Annotated[float, BeforeValidator(check_seconds)]
