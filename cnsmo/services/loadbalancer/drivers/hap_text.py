# SPDX-License-Identifier: Apache-2.0
"""Single values as haproxy(1) reads them; each is checked here, so that none can add a line; pure.

What compile() makes is safe already. This is the last door before the file and the runtime API, and
looks again: by type, then by alphabet or range.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from typing import TypeVar

from cnsmo.model.errors import DriverError
from cnsmo.model.names import is_reachable

LONGEST = 2_147_000.0
"""Seconds: HAProxy's timers count milliseconds in 31 bits."""
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:-]{0,127}")
_LABEL = re.compile(r"[A-Za-z0-9._/-]{1,400}")
_TOKEN = re.compile(r"[A-Za-z0-9-]{1,64}")
_COOKIE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")
_METHOD = re.compile(r"[A-Z]{1,16}")
_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]{0,1023}")
_TARGET = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]{0,2047}")
_FILE = re.compile(r"(/[A-Za-z0-9._@+=,:-]{1,255})+")
_DEVICE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")
_SECRET = re.compile(r"[0-9a-f]{32,128}")
_VALUE = re.compile(r"[\x20-\x7e]{1,1024}")


def wrong(what: str, value: object) -> DriverError:
    """The error for a value that must not reach haproxy."""
    return DriverError(f"the load balancer's {what} {ascii(value)[:80]} cannot be rendered")


E = TypeVar("E", bound=enum.StrEnum)


def choice(kind: type[E], what: str, value: object) -> E:
    """One of the values of an enumeration."""
    try:
        return kind(_text(what, value))
    except ValueError:
        raise wrong(what, value) from None


def number(what: str, value: object, low: int, high: int) -> str:
    """A number between low and high."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise wrong(what, value)
    return str(int(value))


def port(value: object) -> str:
    """A port to listen at, or to call."""
    return number("port", value, 1, 65535)


def milliseconds(what: str, seconds: object) -> str:
    """A time, at least a millisecond."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise wrong(what, seconds)
    if not 0.001 <= seconds <= LONGEST:  # no number at all (nan) is neither
        raise wrong(what, seconds)
    return f"{round(seconds * 1000)}ms"


def address(value: object) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """A single address, without a zone."""
    try:
        found = ipaddress.ip_address(_text("address", value))
    except ValueError:
        raise wrong("address", value) from None
    if getattr(found, "scope_id", None):
        raise wrong("address", value)
    return found


def server_address(value: object) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address of a server: a host's own, never one within the balancer itself."""
    found = address(value)
    if not is_reachable(found):
        raise wrong("address", value)
    return found


def bracketed(value: object) -> str:
    """An address as it stands before a port."""
    found = address(value)
    return f"[{found}]" if found.version == 6 else str(found)


def network(value: object) -> str:
    """A network or a single address, in its one form."""
    try:
        found = ipaddress.ip_network(_text("network", value))
    except ValueError:
        raise wrong("network", value) from None
    if getattr(found.network_address, "scope_id", None):
        raise wrong("network", value)
    return str(found)


def host(value: object) -> str:
    """A host's name: a server's, or one that requests name; in lower case."""
    return _matching(_HOST, "host", value).lower()


def asked(value: object) -> tuple[str, str]:
    """How the name that is asked for is compared (HAProxy's configuration manual, 7.1.3), and with
    what: ``*.name`` is all below it."""
    name = _text("host", value)
    below = name.removeprefix("*.")
    return ("str", host(name)) if below == name else ("end", f".{host(below)}")


def pool(value: object) -> str:
    """A pool's name, which is its backend's."""
    return _matching(_NAME, "pool", value)


def label(value: object) -> str:
    """Whose load balancer it is."""
    return _matching(_LABEL, "label", value)


def token(what: str, value: object) -> str:
    """A word that haproxy(1) has: our own constants, checked all the same."""
    return _matching(_TOKEN, what, value)


def cookie(value: object) -> str:
    """A cookie's name."""
    return _matching(_COOKIE, "cookie", value)


def method(value: object) -> str:
    """A method of HTTP."""
    return _matching(_METHOD, "method", value)


def path(value: object) -> str:
    """The beginning of a path, quoted."""
    return _quoted(_matching(_PATH, "path", value))


def target(value: object) -> str:
    """A path with or without a query, quoted."""
    return _quoted(_matching(_TARGET, "path", value))


def file(value: object) -> str:
    """An absolute path of a file, without a way up."""
    found = _matching(_FILE, "file", value)
    if "/../" in f"{found}/" or "/./" in f"{found}/":
        raise wrong("file", value)
    return found


def device(value: object) -> str:
    """A network interface's name."""
    return _matching(_DEVICE, "interface", value)


def secret(value: object) -> str:
    """A secret of our own making; it is not shown when it is wrong."""
    if not isinstance(value, str) or not _SECRET.fullmatch(value):
        raise DriverError("the load balancer's secret is damaged")
    return value


def header(value: object) -> str:
    """A header's name."""
    return _matching(_TOKEN, "header", value)


def value_of_header(value: object) -> str:
    """A header's value, quoted; ``%`` begins a variable where a log-format is expected."""
    return _quoted(_matching(_VALUE, "header's value", value).replace("%", "%%"))


def _quoted(text: str) -> str:
    """Within single quotes nothing else means anything (HAProxy's configuration manual, 2.2)."""
    return "'" + text.replace("'", "'\\''") + "'"


def _matching(pattern: re.Pattern[str], what: str, value: object) -> str:
    if not pattern.fullmatch(_text(what, value)):
        raise wrong(what, value)
    return str(value)


def _text(what: str, value: object) -> str:
    if not isinstance(value, str):
        raise wrong(what, value)
    return value
