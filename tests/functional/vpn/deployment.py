# SPDX-License-Identifier: Apache-2.0
"""A deployment small enough for a driver's test: what core and agents do, in one object.

The real service admits and compiles; the drivers are the ones under test, one per VM.
"""

import datetime
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cnsmo.model.resource import HOST, OPERATOR, Row, View, joined, member_kind, renewal_kind
from cnsmo.services.base import Driver, System, Unit
from cnsmo.services.vpn.desired import VpnDesired
from cnsmo.services.vpn.service import VpnService
from cnsmo.services.vpn.spec import VpnAnnouncement
from tests.functional.vpn.vms import Net, Vm

VPN = "backbone"
MEMBER = member_kind("vpn")
ROTATION = renewal_kind("vpn")
Wrap = Callable[[System], System]


class Deployment:
    """Hosts and one VPN; every VM of the net that joins runs one driver."""

    def __init__(
        self, net: Net, state: Path, driver: type[Driver[VpnDesired]], spec: Mapping[str, Any]
    ) -> None:
        self.net = net
        self.service = VpnService()
        self.drivers: dict[str, Driver[VpnDesired]] = {}
        self._state = state
        self._class = driver
        self._rows: dict[tuple[str, str], Row] = {}
        self._revision = 0
        self.declare(spec)

    def declare(self, spec: Mapping[str, Any]) -> None:
        body = {"driver": self._class.name, "mtu": 1380, **spec}
        self.write("vpn", VPN, VpnService.Spec.model_validate(body).model_dump(mode="json"))

    def join(self, name: str, groups: tuple[str, ...] = (), version: int = 4, **facts: Any) -> Vm:
        """A new VM, its host row and its driver; version: of the underlay that it knows of."""
        vm = self.net.vms.get(name) or self.net.add(name)
        prefix = 24 if version == 4 else 64
        body = {
            "id": f"id-{name}",
            "groups": list(groups),
            "private": [f"{self.net.address(name, version)}/{prefix}"],
            **facts,
        }
        self.write(HOST, name, body)
        self.restart(name)
        return vm

    def leave(self, name: str) -> None:
        """The host is removed from the rows; its driver still stands."""
        self.write(HOST, name, {}, deleted=True)
        self.write(MEMBER, joined(VPN, name), {}, deleted=True)

    def restart(self, name: str, wrap: Wrap = lambda system: system) -> Driver[VpnDesired]:
        """What a new agent process does: a new driver object on the same state directory."""
        vm = self.net.vms[name]
        self.drivers[name] = self._class(
            wrap(vm.system), VPN, f"shop/{name}/vpn/{VPN}", self.state_dir(name)
        )
        return self.drivers[name]

    def state_dir(self, name: str) -> Path:
        return self._state / name / VPN / VPN / self._class.name

    def rotate(self) -> None:
        """The operator asks for new keys."""
        row = self._rows.get((ROTATION, VPN))
        self.write(ROTATION, VPN, {"generation": row.body["generation"] + 1 if row else 1})

    def unit(self, name: str, confirmed: bool = False) -> Unit:
        (unit,) = self.service.units(self.view(), name)
        return Unit(unit.name, unit.driver, unit.options, confirmed)

    def announce(self, name: str, confirmed: bool = False) -> dict[str, Any]:
        """Let a driver announce and the core admit it; the row changes only with the content."""
        announced = self.drivers[name].announce(self.unit(name, confirmed))
        return self.admit(name, announced)

    def admit(self, name: str, announced: Mapping[str, Any]) -> dict[str, Any]:
        parsed = VpnAnnouncement.model_validate(announced)
        body = self.service.admit(self.view(), VPN, name, parsed)
        old = self._rows.get((MEMBER, joined(VPN, name)))
        if old is None or old.deleted or old.body != body:
            self.write(MEMBER, joined(VPN, name), body)
        return body

    def impose(self, name: str, **changed: Any) -> None:
        """A member's row as the core would never admit it."""
        body = self._rows[MEMBER, joined(VPN, name)].body
        self.write(MEMBER, joined(VPN, name), {**body, **changed})

    def view(self) -> View:
        now = datetime.datetime.now(datetime.UTC)
        return View("shop", self._revision, self._rows.values(), now=now)

    def desired(self, name: str) -> VpnDesired:
        found = self.service.compile(self.view(), name)[VPN]
        assert isinstance(found, VpnDesired)
        return found

    def apply(self, name: str) -> list[str]:
        return self.drivers[name].apply(self.desired(name))

    def converge(self) -> None:
        """Everybody announces, then everybody applies."""
        for name in self.drivers:
            self.announce(name)
        for name in self.drivers:
            self.apply(name)

    def follow(self, seconds: float = 5.0) -> None:
        """Apply again wherever a driver asks for it, as agents do, until none does."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            seen = {name: each.observe(self.desired(name)) for name, each in self.drivers.items()}
            waits = {name: found.again for name, found in seen.items() if found.again is not None}
            if not waits:
                return
            time.sleep(min(waits.values()))
            for name in waits:
                self.apply(name)

    def vpn_address(self, name: str, version: int = 4) -> str:
        for address in self._rows[MEMBER, joined(VPN, name)].body["addresses"]:
            if (":" in address) == (version == 6):
                return str(address)
        raise LookupError(f"{name} has no IPv{version} address in the VPN")

    def write(self, kind: str, name: str, body: dict[str, Any], deleted: bool = False) -> None:
        self._revision += 1
        self._rows[kind, name] = Row(
            kind=kind, name=name, owner=OPERATOR, revision=self._revision, deleted=deleted,
            body=body, updated_at=datetime.datetime.now(datetime.UTC),
        )  # fmt: skip
