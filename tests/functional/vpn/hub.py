# SPDX-License-Identifier: Apache-2.0
"""Deployments with a hub: one host passes on what the others send each other."""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from cnsmo.services.vpn.drivers.openvpn import OpenvpnDriver
from cnsmo.services.vpn.drivers.openvpn_management import Management
from tests.functional.vpn.deployment import Deployment
from tests.functional.vpn.vms import Net

HUB = {"cidr": ["10.66.0.0/24", "fd66::/64"], "topology": "hub", "hub": "hub"}
TCP = {**HUB, "driver_options": {"protocol": "tcp", "port": 443}}
Deploy = Callable[..., Deployment]


def deployments(tmp_path: Path) -> Iterator[Deploy]:
    """For a fixture: makes a deployment of hosts, ``one`` being the hub; nothing is applied."""
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces with TUN devices")
    net = Net()

    def make(
        *hosts: str,
        spec: Mapping[str, Any] = HUB,
        hubs: tuple[str, ...] = ("one",),
        version: int = 4,
    ) -> Deployment:
        shop = Deployment(net, tmp_path, OpenvpnDriver, spec)
        for name in hosts:
            shop.join(name, ("hub",) if name in hubs else (), version)
        return shop

    yield make
    net.stop()


def assert_all_reach_all(shop: Deployment, *names: str, within: float = 8.0) -> None:
    """In both IP versions; within seconds each."""
    for source in names:
        for target in names:
            for version in (4, 6) if source != target else ():
                address = shop.vpn_address(target, version)
                reached = shop.net.vms[source].reaches(address, within)
                assert reached, f"{source} -> {target} {address}"


def sessions(shop: Deployment, hub: str = "one") -> dict[str, str]:
    """Endpoints of the hub's clients, by host."""
    with Management(shop.state_dir(hub)) as management:
        return {session.host: session.endpoint for session in management.sessions()}
