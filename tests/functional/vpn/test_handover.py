# SPDX-License-Identifier: Apache-2.0
"""One VPN driver takes over from another, for real; where it fails, the old tunnel returns."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cnsmo.agent.handover import hand_over
from cnsmo.agent.identity import StateDir
from cnsmo.agent.units import Units
from cnsmo.model.errors import DriverError
from cnsmo.services.base import Driver
from cnsmo.services.vpn.drivers.openvpn import OpenvpnDriver
from cnsmo.services.vpn.drivers.wireguard import WireguardDriver
from tests.functional.vpn.contract import without_pids
from tests.functional.vpn.deployment import VPN, Deployment
from tests.functional.vpn.hub import HUB
from tests.functional.vpn.vms import Net


class Switch:
    """Two hosts with one driver in force; on ``two`` the agent's units keep it, and the next."""

    def __init__(self, net: Net, path: Path, old: type[Driver[Any]], new: type[Driver[Any]]):
        self.old = Deployment(net, path / "old", old, HUB)
        self.new = Deployment(net, path / "new", new, HUB)
        self.old.join("one", ("hub",))
        self.vm = self.old.join("two")
        self.new.join("one", ("hub",))
        self.new.join("two")
        self.units = Units("vpn", self.vm.system, StateDir(path / "agent", "all"), "shop/two")
        for shop, driver in ((self.old, old), (self.new, new)):
            shop.drivers["two"] = self.units.ready(VPN, driver.name)
            shop.announce("one")
            shop.announce("two")
        self.old.converge()

    def over(self) -> list[str]:
        """The new driver takes over on ``two``."""
        before, wanted = self.old.desired("two"), self.new.desired("two")
        return hand_over(self.units, VPN, {before.driver}, before, wanted)

    def reaches(self, shop: Deployment) -> bool:
        """Whether a ping gets through to ``one``."""
        return self.vm.reaches(shop.vpn_address("one"), 10)


@pytest.fixture(params=["to openvpn", "to wireguard"])
def switch(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Switch]:
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces with TUN devices")
    drivers: list[type[Driver[Any]]] = [WireguardDriver, OpenvpnDriver]
    old, new = drivers if request.param == "to openvpn" else reversed(drivers)
    net = Net()
    try:
        made = Switch(net, tmp_path, old, new)
        assert made.reaches(made.old)
        yield made
    finally:
        net.stop()


def test_a_driver_that_fails_at_the_last_lets_the_old_tunnel_return(
    switch: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    cls = type(switch.new.drivers["two"])
    apply, before = cls.apply, without_pids(switch.vm.picture())

    def fail(driver: Any, desired: Any) -> list[str]:
        apply(driver, desired)
        raise DriverError("too late")

    monkeypatch.setattr(cls, "apply", fail)
    announced = switch.new.drivers["two"].announce(switch.new.unit("two"))
    with pytest.raises(DriverError, match=r"too late; \w+ is in force again$"):
        switch.over()
    assert switch.reaches(switch.old), "with its keys: the other end knows no others"
    old = switch.old.drivers["two"].name
    now = switch.units.driver(VPN, old)
    assert now.observe(switch.old.desired("two")).drift == ()
    assert without_pids(switch.vm.picture()) == before
    again = switch.units.driver(VPN, switch.new.drivers["two"].name)
    assert again.announce(switch.new.unit("two")) == announced, "nobody has to learn another key"


def test_the_other_driver_takes_over(switch: Switch) -> None:
    assert switch.over()
    switch.old.drivers["one"].remove()
    switch.new.apply("one")
    assert switch.reaches(switch.new)
    assert switch.units.drivers(VPN) == {switch.new.drivers["two"].name}
