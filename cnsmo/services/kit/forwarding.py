# SPDX-License-Identifier: Apache-2.0
"""Lets packets pass through this host, only where needed, and puts things back as they were.

IPv4 forwards what comes in through an interface that has ``forwarding``: the tunnel and the
networks behind a gateway get it, nothing else. IPv6 asks one switch for the whole host (ip6_forward
in net/ipv6/ip6_output.c); since Linux 6.17 there is ``force_forwarding`` per interface too. A whole
host that is a router ignores router advertisements and could lose its own default route: interfaces
that heed them are told to go on (``accept_ra`` 2, see ip-sysctl.rst).
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import ipaddress
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from cnsmo.services.base import System
from cnsmo.services.kit.link import network
from cnsmo.services.kit.private_files import ensure_directory, read_private, write_private

ROOT = "/proc/sys/"
ALL6 = "net/ipv6/conf/all/forwarding"


class Claim(BaseModel):
    """What one unit needs: interfaces through which packets come in that are to be passed on."""

    interfaces: tuple[str, ...]
    versions: tuple[int, ...]


class Record(BaseModel):
    """The host's record, shared by all units; it counts for the boot that it belongs to.

    ``before``: the values that were there before us, in the order in which they were changed.
    """

    boot_id: str = ""
    before: dict[str, str] = {}
    claims: dict[str, Claim] = {}


@dataclasses.dataclass(frozen=True)
class _Found:
    """Switches by their path below /proc/sys: as they are; what to set; those changed for the
    first time, as they were; the keys that nothing needs any more."""

    now: dict[str, str]
    to_set: dict[str, str]
    first: dict[str, str]
    obsolete: list[str]


class Forwarding:
    """The forwarding switches of a host, as far as one unit needs them.

    Units share them: a switch goes back when the last one that needs it lets go.
    """

    def __init__(self, system: System, state_dir: Path) -> None:
        """state_dir: of the unit's driver, see Driver; the record lies beside all units'."""
        self._system = system
        self._path = state_dir.parents[2] / "forwarding.json"
        self._claimant = "/".join(state_dir.parts[-3:])

    def drift(self, interfaces: Iterable[str], versions: Iterable[int]) -> list[str]:
        """What is not as it should be, one line each; nothing is run where nothing is needed.

        interfaces: through which packets come in that are to be passed on; versions: of IP.
        """
        claim = _claim(interfaces, versions)
        record = self._load()
        if not claim.interfaces and self._claimant not in record.claims:
            return []
        found = self._compare(self._valid(record), claim)
        return [f"{key} is {found.now[key]} instead of {found.to_set[key]}" for key in found.to_set]

    def apply(self, interfaces: Iterable[str], versions: Iterable[int]) -> list[str]:
        """Open what is needed, close again what no longer is.

        :return: what was changed, one line each.
        :raises ProgramError: when a value cannot be set.
        :raises DriverError: when the earlier values cannot be remembered; nothing is changed then.
        """
        claim = _claim(interfaces, versions)
        if not claim.interfaces and self._claimant not in self._load().claims:
            return []
        with _alone(self._path.parent):
            record = self._valid(self._load())
            found = self._compare(record, claim)
            before = {**record.before, **found.first}
            claims = {**record.claims, self._claimant: claim}
            self._remember(Record(boot_id=record.boot_id, before=before, claims=claims))
            if found.to_set:
                words = (f"{key}={value}" for key, value in found.to_set.items())
                self._system.run("sysctl", "-q", "-w", *words)
            before = {key: value for key, value in before.items() if key not in found.obsolete}
            if not claim.interfaces:
                del claims[self._claimant]
            self._remember(Record(boot_id=record.boot_id, before=before, claims=claims))
        return [f"{key} = {value}" for key, value in found.to_set.items()]

    def restore(self) -> None:
        """Let go: what no other unit needs is put back as it was before us."""
        self.apply((), ())

    def _compare(self, record: Record, claim: Claim) -> _Found:
        claims = [claim, *(it for name, it in record.claims.items() if name != self._claimant)]
        now = self._read()
        wanted = _needed(now, claims)
        obsolete = _obsolete(now, record.before, claims)
        back = _restoration(now, record.before, obsolete)
        first = {key: now[key] for key in _touched(now, wanted) if key not in record.before}
        return _Found(now, {**back, **wanted}, first, obsolete)

    def _read(self) -> dict[str, str]:
        """The switches of all interfaces, by their path below /proc/sys."""
        folders = (f"{ROOT}net/ipv4/conf", f"{ROOT}net/ipv6/conf")
        names = ("forwarding", "force_forwarding", "accept_ra")
        shown = self._system.run(
            "grep", "-rsH", ".", *folders, *(f"--include={name}" for name in names), ok=(0, 1, 2)
        ).stdout
        pairs = (line.rpartition(":") for line in shown.splitlines())
        return {path.removeprefix(ROOT): value for path, _colon, value in pairs}

    def _load(self) -> Record:
        text = read_private(self._path)
        if text is None:
            return Record()
        try:
            return Record.model_validate_json(text)
        except ValidationError:
            return Record()

    def _valid(self, record: Record) -> Record:
        """The record, if it was made since the host was started."""
        boot_id = self._system.run("cat", f"{ROOT}kernel/random/boot_id").stdout.strip()
        return record if record.boot_id == boot_id else Record(boot_id=boot_id)

    def _remember(self, record: Record) -> None:
        if not record.claims and not record.before:
            self._path.unlink(missing_ok=True)
        elif record != self._load():
            write_private(self._path, record.model_dump_json())


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """No other process of this host works on the record meanwhile."""
    ensure_directory(directory)
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _claim(interfaces: Iterable[str], versions: Iterable[int]) -> Claim:
    return Claim(interfaces=tuple(interfaces), versions=tuple(versions))


def _needed(now: Mapping[str, str], claims: Iterable[Claim]) -> dict[str, str]:
    wanted: dict[str, str] = {}
    for claim in claims:
        wanted |= needed(now, claim.interfaces, claim.versions)
    return wanted


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
    routers = [key for key, value in now.items() if _is_forwarding6(key) and value == "1"]
    return [*wanted, *routers]


def _is_forwarding6(key: str) -> bool:
    return key.startswith("net/ipv6/") and key.endswith("/forwarding")


def _restoration(
    now: Mapping[str, str], before: Mapping[str, str], obsolete: Iterable[str]
) -> dict[str, str]:
    """What to set so that obsolete keys are as before; the switch for all comes first."""
    back = {key: before[key] for key in obsolete if key in now}
    whole = {ALL6: back.pop(ALL6)} if back.get(ALL6, now.get(ALL6)) != now.get(ALL6) else {}
    changed = {
        key: value
        for key, value in back.items()
        if now[key] != value or (whole and _is_forwarding6(key))
    }
    return {**whole, **changed}


def _obsolete(
    now: Mapping[str, str], before: Mapping[str, str], claims: Iterable[Claim]
) -> list[str]:
    """The keys that we once changed and that nothing needs any more."""
    as_if = {**now, **before}
    still = _touched(as_if, _needed(as_if, claims))
    return [key for key in before if key not in still]
