# SPDX-License-Identifier: Apache-2.0
"""The words of a load balancer as types: where it listens, what it asks; checked, in one form."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator

from cnsmo.model.names import LABEL, check_address, check_interface
from cnsmo.services.loadbalancer.desired import Bind
from cnsmo.services.words import as_list

METHODS = ("GET", "HEAD", "OPTIONS")
"""Of HTTP, those that a check may use: they change nothing."""
_LISTEN = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([0-9.]{7,15})):([0-9]{1,5})")
_STATUSES = re.compile(r"([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?")
_NAME = re.compile(rf"(?=.{{1,253}}$){LABEL.pattern}(\.{LABEL.pattern})*")
_NAMES = re.compile(rf"(\*\.)?{_NAME.pattern}")
_PATH = re.compile(r"/[A-Za-z0-9/._~!$&'()*+,;=:@%-]{0,999}")
_QUERY = r"\?[A-Za-z0-9/._~!$&'()*+,;=:@%?-]*"
_TARGET = re.compile(rf"(?=.{{1,1000}}$){_PATH.pattern}({_QUERY})?")
_FILE = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._+@-]{1,255}){1,15}")
_HEADER = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")
_VALUE = re.compile(r"[A-Za-z0-9 !#$&'()*+,./:;<=>?@^_`|~-]{1,1000}")
_COOKIE = re.compile(r"[A-Za-z0-9_-]{1,64}")
OWN_HEADERS = frozenset({
    "connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding",
    "upgrade", "x-forwarded-for", "x-forwarded-proto",
})  # fmt: skip
"""Those that carry the connection itself, or that ``forwarded`` sets."""


def check_port(value: Any) -> int:
    """A port's number."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65535:
        raise ValueError(f"{ascii(value)} is no port: write 1 to 65535")
    return value


def check_listen(value: Any) -> int | str:
    """A port on all addresses, or ``address:port``."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return check_port(int(value))
    if not isinstance(value, str):
        return check_port(value)
    found = _LISTEN.fullmatch(value)
    if found is None:
        raise ValueError(
            f"{ascii(value)} is no place to listen at: write 80, 192.0.2.1:80 or [2001:db8::1]:80"
        )
    address, port = check_address(found[1] or found[2]), check_port(int(found[3]))
    _check_own(address, port)
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _check_own(address: str, port: int) -> None:
    """That a host can have it, and have it alone."""
    found = ipaddress.ip_address(address)
    if found.is_unspecified:
        raise ValueError(f"{address} is every address: write {port}")
    mapped = getattr(found, "ipv4_mapped", None)
    if mapped is not None:
        raise ValueError(f"{address} is an address of IPv4: write {mapped}:{port}")
    if found.is_multicast or found.is_link_local:
        raise ValueError(f"{address} is no address of a single host: write one that clients call")


def bind(listen: int | str) -> Bind:
    """Where that is."""
    if isinstance(listen, int):
        return Bind("", listen)
    address, _colon, port = listen.rpartition(":")
    return Bind(address.strip("[]"), int(port))


def check_vip(value: Any) -> str:
    """An address with the length of its network."""
    if not isinstance(value, str) or not value.isascii() or "/" not in value:
        raise ValueError("an address with its prefix length is expected, as 10.0.0.100/24")
    found = ipaddress.ip_interface(check_interface(value))
    if found.network.num_addresses == 1:
        raise ValueError(f"{found} has no room for carriers: write the length of their network")
    wide = found.network.num_addresses > 2  # else both are hosts' (RFC 3021, RFC 6164)
    if wide and found.ip == found.network.network_address:
        raise ValueError(f"{found.ip} is {found.network} itself: take an address in it")
    if wide and found.version == 4 and found.ip == found.network.broadcast_address:
        raise ValueError(f"{found.ip} is everybody's in {found.network}: take another one")
    return str(found)


def _as_version(value: Any) -> Any:
    """A version that YAML takes for a number."""
    return str(value) if isinstance(value, float) else value


def check_statuses(value: Any) -> str:
    """A status of HTTP, or a range of them."""
    found = _STATUSES.fullmatch(str(value)) if isinstance(value, int | str) else None
    if found is None or isinstance(value, bool) or (found[2] and found[1] > found[2]):
        raise ValueError(f"{ascii(value)} is no status of HTTP: write 200, or 200-399")
    return str(value)


def statuses(text: str) -> tuple[int, int]:
    """First and last of a range."""
    first, _dash, last = text.partition("-")
    return int(first), int(last or first)


def _matching(pattern: re.Pattern[str], what: str) -> Any:
    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(f"{ascii(value)[:80]} is no {what}")
        return value

    return AfterValidator(check)


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _check_header(value: str) -> str:
    if not _HEADER.fullmatch(value):
        raise ValueError(f"{ascii(value)[:80]} is no name of a header")
    if value.lower() in OWN_HEADERS:
        raise ValueError(f"{value} is set by the balancer itself")
    return value


def _check_file(value: str) -> str:
    if not _FILE.fullmatch(value):
        raise ValueError(
            f"{ascii(value)[:80]} is no file: write its absolute path on the carrier, "
            "of letters, digits and . _ + @ -"
        )
    return value


Port = Annotated[int, BeforeValidator(check_port)]
Listen = Annotated[int | str, BeforeValidator(check_listen)]
Listens = Annotated[tuple[Listen, ...], BeforeValidator(as_list)]
Vip = Annotated[str, BeforeValidator(check_vip)]
Statuses = Annotated[
    tuple[Annotated[str, BeforeValidator(check_statuses)], ...], BeforeValidator(as_list)
]
HostName = Annotated[str, BeforeValidator(_lower), _matching(_NAME, "host name")]
RoutedHost = Annotated[str, BeforeValidator(_lower), _matching(_NAMES, "host name")]
RoutedHosts = Annotated[tuple[RoutedHost, ...], BeforeValidator(as_list)]
UrlPath = Annotated[str, _matching(_TARGET, "path of a URL: it begins with /")]
RoutedPath = Annotated[
    str, _matching(_PATH, "beginning of a path: it begins with /, and ends before any ?")
]
File = Annotated[str, AfterValidator(_check_file)]
Files = Annotated[tuple[File, ...], BeforeValidator(as_list)]
HeaderName = Annotated[str, AfterValidator(_check_header)]
HeaderValue = Annotated[str, _matching(_VALUE, "value of a header that can be set here")]
TlsVersion = Annotated[Literal["1.2", "1.3"], BeforeValidator(_as_version)]
CookieName = Annotated[str, _matching(_COOKIE, "name of a cookie")]
