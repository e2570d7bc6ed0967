# SPDX-License-Identifier: Apache-2.0
"""Lets packets pass through this host, only where needed, and puts things back as they were.

IPv4 forwards what comes in through an interface that has ``forwarding``, so that the tunnel and the
networks behind a gateway get it, and nothing else. IPv6 asks one switch for the whole host (ip6_forward
in net/ipv6/ip6_output.c), since Linux 6.17 also ``force_forwarding`` per interface. The whole
host as a router would ignore router advertisements and could lose its own default route: interfaces
that heed them are told to go on (``accept_ra`` 2, see ip-sysctl.rst).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from cnsmo.services.base import System
from cnsmo.services.vpn.drivers.link import network
from cnsmo.services.vpn.drivers.private_files import read_private, write_private

ROOT = "/proc/sys/"
ALL6 = "net/ipv6/conf/all/forwarding"


class Before(BaseModel):
    """The values that were there before us, in the order in which they were changed.

    They are forgotten with the boot that they belong to.
    """

    boot_id: str = ""
    values: dict[str, str] = {}


class Forwarding:
    """The forwarding switches of a host, as far as one unit needs them."""

    def __init__(self, system: System, state_dir: Path) -> None:
        self._system = system
        self._path = state_dir / "forwarding.json"

    def drift(self, interfaces: Iterable[str], versions: Iterable[int]) -> list[str]:
        """What is not as it should be, one line each; nothing is run where nothing is needed.

        interfaces: through which packets come in that are to be passed on; versions: of IP.
        """
        interfaces = tuple(interfaces)
        before = self._load()
        if not interfaces and not before.values:
            return []
        now = self._read()
        wanted = needed(now, interfaces, versions)
        stale = [key for key in _obsolete(now, before.values, interfaces, versions)]
        return [f"{key} is {now[key]} instead of {wanted[key]}" for key in wanted] + [
            f"{key} is {now[key]} instead of {before.values[key]}"
            for key in stale
            if now.get(key, before.values[key]) != before.values[key]
        ]

    def apply(self, interfaces: Iterable[str], versions: Iterable[int]) -> list[str]:
        """Open what is needed, close again what no longer is.

        :return: what was changed, one line each.
        :raises ProgramError: when a value cannot be set.
        :raises DriverError: when the earlier values cannot be remembered; nothing is changed then.
        """
        interfaces = tuple(interfaces)
        before = self._load()
        if not interfaces and not before.values:
            return []
        now = self._read()
        obsolete = _obsolete(now, before.values, interfaces, versions)
        wanted = needed(now, interfaces, versions)
        kept = {key: value for key, value in before.values.items() if key not in obsolete}
        first = {key: now[key] for key in _touched(now, wanted) if key not in before.values}
        if first:
            self._save({**before.values, **first})
        back = {key: before.values[key] for key in obsolete if key in now}
        back = {key: value for key, value in back.items() if now[key] != value}
        self._write({**back, **wanted})
        if obsolete:
            self._save({**kept, **first})
        return [f"{key} = {value}" for key, value in {**back, **wanted}.items()]

    def restore(self) -> None:
        """Put everything back as it was before us."""
        self.apply((), ())

    def _read(self) -> dict[str, str]:
        """The switches of all interfaces, by their path below /proc/sys."""
        folders = (f"{ROOT}net/ipv4/conf", f"{ROOT}net/ipv6/conf")
        names = ("forwarding", "force_forwarding", "accept_ra")
        shown = self._system.run(
            "grep", "-rsH", ".", *folders, *(f"--include={name}" for name in names), ok=(0, 1, 2)
        ).stdout
        pairs = (line.rpartition(":") for line in shown.splitlines())
        return {path.removeprefix(ROOT): value for path, _colon, value in pairs}

    def _write(self, values: Mapping[str, str]) -> None:
        if values:
            self._system.run("sysctl", "-q", "-w", *(f"{k}={v}" for k, v in values.items()))

    def _load(self) -> Before:
        text = read_private(self._path)
        if text is None:
            return Before()
        try:
            before = Before.model_validate_json(text)
        except ValidationError:
            return Before()
        return before if before.boot_id == self._boot_id() else Before()

    def _save(self, values: dict[str, str]) -> None:
        if values:
            before = Before(boot_id=self._boot_id(), values=values)
            write_private(self._path, before.model_dump_json())
        else:
            self._path.unlink(missing_ok=True)

    def _boot_id(self) -> str:
        return self._system.run("cat", f"{ROOT}kernel/random/boot_id").stdout.strip()


def needed(
    now: Mapping[str, str], interfaces: Iterable[str], versions: Iterable[int]
) -> dict[str, str]:
    """Which switches have to be set so that packets from these interfaces are passed on; pure."""
    wanted: dict[str, str] = {}
    for name in interfaces:
        if 4 in versions:
            wanted[f"net/ipv4/conf/{name}/forwarding"] = "1"
        if 6 in versions and now.get(ALL6) == "0":
            wanted |= _needed6(now, name)
    return {key: value for key, value in wanted.items() if key in now and now[key] != value}


def entrances(
    routes: Iterable[dict[str, Any]], tunnel: str, subnets: Iterable[str]
) -> dict[str, str | None]:
    """Through which interface each subnet behind this gateway is reached; None: through none."""
    others = [
        (ipaddress.ip_network(network(route)), str(route["dev"]))
        for route in routes
        if route.get("dev") not in (None, tunnel)
    ]
    found: dict[str, str | None] = {}
    for subnet in subnets:
        inner = ipaddress.ip_network(subnet)
        holding = [
            (outer.prefixlen, dev)
            for outer, dev in others
            if outer.version == inner.version and inner.subnet_of(outer)  # type: ignore[arg-type]
        ]
        found[subnet] = max(holding)[1] if holding else None
    return found


def _needed6(now: Mapping[str, str], name: str) -> dict[str, str]:
    force = f"net/ipv6/conf/{name}/force_forwarding"
    if force in now:
        return {force: "1"}
    heeding = [key for key, value in now.items() if key.endswith("/accept_ra") and value == "1"]
    return {**dict.fromkeys(sorted(heeding), "2"), ALL6: "1"}


def _touched(now: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """All keys whose values change: the switch for all interfaces sets each one's too."""
    if ALL6 not in wanted:
        return list(wanted)
    routers = [
        key
        for key, value in now.items()
        if key.startswith("net/ipv6/") and key.endswith("/forwarding") and value == "1"
    ]
    return [*wanted, *routers]


def _obsolete(
    now: Mapping[str, str],
    before: Mapping[str, str],
    interfaces: Iterable[str],
    versions: Iterable[int],
) -> list[str]:
    """The keys that we once changed and that nothing needs any more."""
    as_if = {**now, **before}
    still = needed(as_if, interfaces, versions)
    return [key for key in before if key not in _touched(as_if, still)]
