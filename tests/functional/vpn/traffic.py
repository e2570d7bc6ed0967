# SPDX-License-Identifier: Apache-2.0
"""The part of the contract that is about packets: over which underlay, and beyond the VPN."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from cnsmo.services.base import Driver
from cnsmo.services.vpn.desired import VpnDesired
from tests.functional.vpn.deployment import Deployment
from tests.functional.vpn.vms import Net

LAN = ("192.168.7.0/24", "fd77::/64")


class VpnTraffic:
    """Base of ``VpnDriverContract``: what a driver's test says of itself, and the fixtures."""

    driver: ClassVar[type[Driver[VpnDesired]]]
    spec: ClassVar[Mapping[str, Any]] = {"cidr": ["10.66.0.0/24", "fd66::/64"]}
    groups: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Groups of the hosts; e.g. ``{"one": ("hub",)}`` for a hub topology."""
    carries = True
    """Whether packets really go through it (noop: no)."""

    @pytest.fixture
    def net(self) -> Iterator[Net]:
        if os.geteuid() != 0:
            pytest.skip("needs root: network namespaces with TUN devices")
        net = Net()
        yield net
        net.stop()

    @pytest.fixture
    def shop(self, net: Net, tmp_path: Path) -> Deployment:
        """Hosts one, two and three exist; nothing has been announced or applied."""
        return self.three(net, tmp_path)

    @pytest.fixture
    def mesh(self, shop: Deployment) -> Deployment:
        """The VPN is up on all three, and was seen to work."""
        shop.converge()
        shop.follow()
        self.assert_works(shop)
        return shop

    def three(self, net: Net, state: Path, version: int = 4, **spec: Any) -> Deployment:
        """Three hosts; version: of the IP that carries the tunnels."""
        shop = Deployment(net, state, self.driver, {**self.spec, **spec})
        for name in ("one", "two", "three"):
            shop.join(name, self.groups.get(name, ()), version)
        return shop

    def assert_works(self, shop: Deployment, *names: str) -> None:
        """Everybody named (all, if nobody is) reaches everybody else in both IP versions."""
        if not self.carries:
            return
        hosts = names or tuple(shop.drivers)
        for source in hosts:
            for target in hosts:
                for version in (4, 6) if source != target else ():
                    address = shop.vpn_address(target, version)
                    assert shop.net.vms[source].reaches(address), f"{source} -> {target} {address}"

    def test_tunnels_run_over_ipv6(self, net: Net, tmp_path: Path) -> None:
        shop = self.three(net, tmp_path, version=6)
        for vm in net.vms.values():
            vm.run("ip address flush dev eth0 scope global to 10.9.0.0/24")
        shop.converge()
        self.assert_works(shop)

    def test_subnets_behind_a_gateway_are_reached_and_left_again(
        self, net: Net, tmp_path: Path
    ) -> None:
        routes = [{"subnet": subnet, "via": "two"} for subnet in LAN]
        shop = self.three(net, tmp_path)
        if not self.carries:
            return
        machine = net.lan(net.vms["two"], LAN)
        before = net.vms["two"].picture()
        shop.declare({**self.spec, "routes": routes})
        shop.converge()
        for name in ("one", "three"):
            assert net.vms[name].reaches("192.168.7.2"), name
            assert net.vms[name].reaches("fd77::2"), name
            assert machine.reaches(shop.vpn_address(name)), name
            assert machine.reaches(shop.vpn_address(name, 6)), name
            assert shop.apply(name) == []
        assert shop.apply("two") == []
        shop.declare(self.spec)
        for name in shop.drivers:
            assert shop.apply(name)
        assert net.vms["two"].picture()["sysctls"] != before["sysctls"]  # the tunnel's own
        shop.drivers["two"].remove()
        assert net.vms["two"].picture() == before
        assert "192.168.7.0" not in net.vms["one"].run("ip route")
