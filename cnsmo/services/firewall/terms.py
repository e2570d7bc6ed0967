# SPDX-License-Identifier: Apache-2.0
"""The words of a rule as types: who, which protocol, which ports; checked and brought to one form.

Numbers of protocols, ICMP types and ports are IANA's. What is stored of a port is the number, so
that every host means the same whatever its /etc/services says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from cnsmo.model.names import check_label
from cnsmo.model.suggest import did_you_mean
from cnsmo.services.firewall.desired import Rate
from cnsmo.services.words import as_list, check_source

ANY = "any"
PREFIXES = ("group", "host", "vpn")

PROTOCOLS = {
    "icmp": 1, "igmp": 2, "tcp": 6, "udp": 17, "gre": 47, "esp": 50, "ah": 51, "icmpv6": 58,
    "ospf": 89, "vrrp": 112, "sctp": 132, "udplite": 136,
}  # fmt: skip
WITH_PORTS = frozenset({6, 17, 132, 136})
ICMP, ICMPV6 = 1, 58
ICMP_TYPES = {
    "echo-reply": 0, "destination-unreachable": 3, "redirect": 5, "echo-request": 8,
    "router-advertisement": 9, "router-solicitation": 10, "time-exceeded": 11,
    "parameter-problem": 12, "timestamp-request": 13, "timestamp-reply": 14,
}  # fmt: skip
ICMPV6_TYPES = {
    "destination-unreachable": 1, "packet-too-big": 2, "time-exceeded": 3, "parameter-problem": 4,
    "echo-request": 128, "echo-reply": 129, "router-solicitation": 133,
    "router-advertisement": 134, "neighbour-solicitation": 135, "neighbour-advertisement": 136,
    "redirect": 137,
}  # fmt: skip
PORTS = {
    "ftp": 21, "ssh": 22, "telnet": 23, "smtp": 25, "domain": 53, "tftp": 69, "http": 80,
    "kerberos": 88, "pop3": 110, "sunrpc": 111, "ntp": 123, "imap": 143, "snmp": 161,
    "snmptrap": 162, "bgp": 179, "ldap": 389, "https": 443, "syslog": 514, "submission": 587,
    "ldaps": 636, "domain-s": 853, "rsync": 873, "ftps": 990, "imaps": 993, "pop3s": 995,
    "openvpn": 1194, "mqtt": 1883, "nfs": 2049, "etcd-client": 2379, "etcd-server": 2380,
    "iscsi-target": 3260, "mysql": 3306, "ms-wbt-server": 3389, "epmd": 4369, "sip": 5060,
    "postgresql": 5432, "amqps": 5671, "amqp": 5672, "rfb": 5900, "redis": 6379, "http-alt": 8080,
    "secure-mqtt": 8883, "git": 9418, "memcache": 11211,
}  # fmt: skip
"""Service names that IANA knows, and that are asked for."""
UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
"""What a rate counts by, in seconds."""
_RATE = re.compile(rf"([1-9][0-9]{{0,5}})/({'|'.join(UNITS)})")
_RANGE = re.compile(r"([0-9]{1,6})-([0-9]{1,6})")
DEFAULT_LOG = "10/minute"


def check_term(value: Any) -> str:
    """One form of who is meant: any, group:X, host:X, vpn:X, a network, or a bare name."""
    if not isinstance(value, str):
        raise ValueError("any, a group, a host, a network (10.0.0.0/8) or vpn:NAME is expected")
    if value == ANY:
        return value
    head, colon, name = value.partition(":")
    if colon and head in PREFIXES:
        return f"{head}:{check_label(name)}"
    address = "/" in value or ":" in value or value.replace(".", "").isdigit()
    return check_source(value) if address and value.isascii() else check_label(value)


def is_network(term: str) -> bool:
    """Whether a term is a network rather than somebody's name."""
    return "/" in term


def check_protocol(value: Any) -> str:
    """A protocol's name where it has one here, else its number; ``any``."""
    text = str(value).lower() if isinstance(value, int | str) else ""
    if isinstance(value, bool) or (text != ANY and text not in PROTOCOLS):
        if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,3}", text) or int(text) > 255:
            known = ", ".join(PROTOCOLS)
            raise ValueError(
                f"{ascii(value)} is no protocol: write any, a number up to 255, or one of {known}"
            )
        names = {number: name for name, number in PROTOCOLS.items()}
        return names.get(int(text), str(int(text)))
    return text


def protocol_number(name: str) -> int | None:
    """IANA's number; None for any."""
    return None if name == ANY else PROTOCOLS.get(name) or int(name)


def check_port(value: Any) -> int | str:
    """A port's number, or ``first-last``."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("a port is a number from 1 to 65535, a range as 8000-8100, or a name")
    if isinstance(value, int):
        return _port(value)
    if found := _RANGE.fullmatch(value):
        first, last = (_port(int(part)) for part in found.groups())
        if first > last:
            raise ValueError(f"{value} is reversed: did you mean {last}-{first}?")
        return f"{first}-{last}" if first < last else first
    return _port(int(value)) if re.fullmatch(r"[0-9]{1,6}", value) else _port_of(value)


def _port(number: int) -> int:
    if not 1 <= number <= 65535:
        raise ValueError(f"{number} is no port: 1 to 65535")
    return number


def _port_of(name: str) -> int:
    if name not in PORTS:
        meant = did_you_mean(name, PORTS).partition(" known:")[0]
        hint = f" {meant}" if meant.startswith("did") else ""
        raise ValueError(
            f"{ascii(name)} is no port: write 1 to 65535, a range as 8000-8100, or a service's "
            f"name as http;{hint}".rstrip(";")
        )
    return PORTS[name]


def port_ranges(ports: tuple[int | str, ...]) -> tuple[tuple[int, int], ...]:
    """First and last of each, sorted; neighbours and overlaps are joined."""
    spans: list[tuple[int, int]] = []
    for port in ports:
        first, _dash, last = str(port).partition("-")
        spans.append((int(first), int(last or first)))
    return joined_ranges(spans)


def joined_ranges(spans: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Ranges by their first and last, sorted; neighbours and overlaps are one."""
    joined: list[tuple[int, int]] = []
    for low, high in sorted(spans):
        if joined and low <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(high, joined[-1][1]))
        else:
            joined.append((low, high))
    return tuple(joined)


def check_icmp(value: Any) -> str:
    """The name of an ICMP type, or its number."""
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if text in ICMP_TYPES or text in ICMPV6_TYPES:
        return text
    if re.fullmatch(r"[0-9]{1,3}", text) and int(text) <= 255:
        return str(int(text))
    known = ", ".join(sorted({*ICMP_TYPES, *ICMPV6_TYPES}))
    raise ValueError(f"{ascii(value)} is no ICMP type: write a number up to 255, or one of {known}")


def icmp_numbers(names: tuple[str, ...], protocol: int | None) -> tuple[int, ...]:
    """Numbers of the types that the protocol knows, sorted."""
    table = ICMPV6_TYPES if protocol == ICMPV6 else ICMP_TYPES
    return tuple(sorted({int(name) if name.isdigit() else table[name] for name in names}))


def check_rate(value: Any) -> str:
    """``10/minute``."""
    if isinstance(value, str) and _RATE.fullmatch(value):
        return value
    raise ValueError(f"{ascii(value)} is no rate: write 10/second, with one of {', '.join(UNITS)}")


def _check_log(value: Any) -> str | None:
    if value is None or value is False:
        return None
    return DEFAULT_LOG if value is True else check_rate(value)


def rate(text: str | None) -> Rate | None:
    """The rate that the text says."""
    if text is None:
        return None
    count, _slash, unit = text.partition("/")
    return Rate(int(count), unit)


def some(value: Any) -> Any:
    """The same, and not empty."""
    found = as_list(value)
    if not found:
        raise ValueError("at least 1 is needed")
    return found


Term = Annotated[str, BeforeValidator(check_term)]
Terms = Annotated[tuple[Term, ...], BeforeValidator(some)]
Protocol = Annotated[str, BeforeValidator(check_protocol)]
Ports = Annotated[
    tuple[Annotated[int | str, BeforeValidator(check_port)], ...],
    BeforeValidator(as_list),
    AfterValidator(lambda ports: tuple(dict.fromkeys(ports))),
]
IcmpTypes = Annotated[
    tuple[Annotated[str, BeforeValidator(check_icmp)], ...], BeforeValidator(as_list)
]
RateText = Annotated[str, BeforeValidator(check_rate)]
Log = Annotated[str | None, BeforeValidator(_check_log)]
