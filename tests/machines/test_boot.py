# SPDX-License-Identifier: Apache-2.0
"""A core and three VMs, from nothing to ready, with nobody logging in."""

import pytest

from cnsmo.boot import render
from cnsmo.boot.parameters import CoreParameters
from tests.beds.nspawn import Cloud, Machine
from tests.booting import Core
from tests.eventually import eventually
from tests.machines.conftest import DOCUMENT

NAMES = ["web1", "web2", "web3"]


@pytest.fixture(scope="module")
def hosts(cloud: Cloud, core: Core, source: dict[str, str]) -> dict[str, Machine]:
    told = core.joining(core.tokens["web"], "vpn,firewall") | source
    made = {name: cloud.boot(name, render.template("agent"), told) for name in NAMES}
    for name in NAMES:
        signal = cloud.signal(name, timeout=420)
        assert signal["status"] == "SUCCESS", (signal, made[name].console())
    return made


def states(core: Core) -> dict[str, set[str]]:
    return {name: core.state(name) for name in NAMES}


def test_every_vm_is_ready_when_it_says_so(core: Core, hosts: dict[str, Machine]) -> None:
    assert states(core) == {name: {"ready"} for name in NAMES}
    for machine in [core.machine, *hosts.values()]:
        machine.booted()
        assert machine.status() == "done", machine.console()
        assert machine.read("/etc/cnsmo/boot.json") == "", "secrets are used up"
        assert machine.run("stat", "-c", "%a %U", "/etc/cnsmo/cnsmo.conf.d/50-boot.conf") in (
            "600 root\n",
            "600 cnsmo\n",
        )


def test_the_vpn_reaches_from_every_vm_to_every_other(
    core: Core, hosts: dict[str, Machine]
) -> None:
    core.machine.write("/srv/shop.yaml", DOCUMENT, mode=0o644)
    core.manage("apply", "/srv/shop.yaml", "--wait")
    known = core.addresses()
    for machine in hosts.values():
        for address in known.values():
            machine.run("ping", "-c", "1", "-W", "5", address)


def test_the_unit_renews_the_brokers_certificate_and_disturbs_nobody(
    core: Core, hosts: dict[str, Machine]
) -> None:
    assert core.renew_broker()
    core.manage("apply", "/srv/shop.yaml", "--wait")
    assert states(core) == {name: {"ready"} for name in NAMES}


def test_an_installed_package_has_the_same_user_data_as_the_tree(core: Core) -> None:
    shown = core.manage("userdata", "core", "--deployment", "shop")
    assert shown == render.render(CoreParameters(deployment="shop"))


def test_after_a_reboot_each_comes_back_by_itself(
    cloud: Cloud, core: Core, hosts: dict[str, Machine]
) -> None:
    for machine in [core.machine, *hosts.values()]:
        machine.restart()
    eventually(lambda: all_ready(core), timeout=180, what="all are ready again")
    target = core.addresses()["web2"]
    eventually(lambda: answers(hosts["web1"], target), timeout=60, what="the VPN is back")
    assert [len(cloud.signals(name)) for name in NAMES] == [1, 1, 1], "booted is booted"


def all_ready(core: Core) -> bool:
    try:
        return states(core) == {name: {"ready"} for name in NAMES}
    except AssertionError:
        return False


def answers(machine: Machine, address: str) -> bool:
    return " 0% packet loss" in machine.run("ping", "-c", "1", "-W", "2", address, check=False)
