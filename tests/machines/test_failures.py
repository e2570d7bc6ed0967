# SPDX-License-Identifier: Apache-2.0
"""What goes wrong at a boot ends in a state, and in a message that an operator can act on."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cnsmo.boot import render
from tests.beds.nspawn import Cloud, Machine
from tests.booting import Core
from tests.eventually import eventually

Boot = Callable[..., Machine]


@pytest.fixture
def boot(cloud: Cloud, baked: Path) -> Boot:
    """A VM of an image that has CNSMO."""

    def begin(name: str, told: dict[str, str]) -> Machine:
        return cloud.boot(name, render.template("agent"), told, baked)

    return begin


def failed(cloud: Cloud, machine: Machine) -> str:
    """The reason that who waits was told; cloud-init says that something is wrong, too."""
    signal = cloud.signal(machine.name, timeout=420)
    assert signal["status"] == "FAILURE", signal
    machine.booted()
    assert machine.status() == "error"
    reason = signal["reason"].partition(": ")[2]
    assert f"cnsmo-boot: failed: {reason}" in machine.console()
    eventually(lambda: f"cnsmo-boot: {reason}" in said(machine), 60, "cloud-init shows the reason")
    return str(signal["reason"])


def said(machine: Machine) -> str:
    return machine.run("cloud-init", "status", "--long", check=False)


@pytest.fixture
def joins(core: Core) -> dict[str, str]:
    """What a VM needs to join; the token is for one host."""
    return core.joining(core.token(), "vpn")


def test_a_wrong_token_fails_at_once_and_a_right_one_mends_it(
    cloud: Cloud, core: Core, boot: Boot, joins: dict[str, str]
) -> None:
    wrong = joins | {"cnsmo_token": "t-000000000000.nonsense"}
    machine = boot("wrongtoken", wrong)
    assert "the join token is not valid" in failed(cloud, machine)
    assert joins["cnsmo_token"] not in machine.console()
    machine.write("/etc/cnsmo/join.token", joins["cnsmo_token"])
    eventually(lambda: core.state("wrongtoken") == {"ready"}, 60, "it joins by itself")


def test_an_expired_token_is_refused_like_a_wrong_one(
    cloud: Cloud, core: Core, boot: Boot, joins: dict[str, str]
) -> None:
    token = core.token("--lifetime", "1s")
    eventually(lambda: core.token_status(token) == "expired", 30, "it expires")
    machine = boot("expired", joins | {"cnsmo_token": token})
    assert "the join token is not valid" in failed(cloud, machine)


def test_nothing_secret_goes_to_a_core_of_another_authority(
    cloud: Cloud, core: Core, boot: Boot, joins: dict[str, str]
) -> None:
    machine = boot("wrongca", joins | {"cnsmo_ca": "0" * 64})
    assert "is not the core with the fingerprint" in failed(cloud, machine)
    assert core.token_status(joins["cnsmo_token"]) == "valid"


def test_a_vm_that_cannot_reach_the_packages_says_from_where(
    cloud: Cloud, boot: Boot, joins: dict[str, str]
) -> None:
    nowhere = {
        "cnsmo_requirements": "http://192.0.2.1/requirements.txt",
        "cnsmo_requirements_sha256": "0" * 64,
    }
    machine = boot("nopackages", joins | nowhere)
    reason = failed(cloud, machine)
    assert "http://192.0.2.1/requirements.txt cannot be fetched: " in reason


def test_agents_wait_for_a_core_that_comes_three_minutes_later(
    cloud: Cloud, core: Core, boot: Boot, joins: dict[str, str]
) -> None:
    core.machine.run("systemctl", "stop", "cnsmo-core")
    machine = boot("early", joins)
    try:
        eventually(
            lambda: "no core answers at" in machine.console(), 120, "it says for whom it waits"
        )
        time.sleep(180)  # the three minutes that the test is about
        assert cloud.signals("early") == []
    finally:
        core.machine.run("systemctl", "start", "cnsmo-core")
    signal = cloud.signal("early", timeout=120)
    assert signal["status"] == "SUCCESS", signal


def test_who_is_shut_down_for_good_leaves_and_who_reboots_stays(
    cloud: Cloud, core: Core, boot: Boot, joins: dict[str, str]
) -> None:
    machine = boot("leaver", joins | {"cnsmo_leave": "shutdown"})
    assert cloud.signal("leaver", timeout=300)["status"] == "SUCCESS"
    machine.restart()
    machine.booted()
    assert core.state("leaver") == {"ready"}
    machine.power_off()
    assert core.state("leaver") == set()


def test_a_floating_ip_that_arrives_later_is_told_to_the_others(
    cloud: Cloud, core: Core, boot: Boot, joins: dict[str, str]
) -> None:
    machine = boot("floating", joins)
    assert cloud.signal("floating", timeout=300)["status"] == "SUCCESS"
    assert core.endpoint("floating") != "203.0.113.77"
    cloud.tell(machine, public_ipv4="203.0.113.77")
    eventually(lambda: core.endpoint("floating") == "203.0.113.77", 120, "it is noticed")


def test_a_vm_without_cnsmo_and_without_a_source_says_so(cloud: Cloud) -> None:
    machine = cloud.boot("nothing", render.template("agent"), {"cnsmo_services": "vpn"})
    assert "cnsmo_requirements does not say what to install" in failed(cloud, machine)


def test_parameters_that_are_missing_are_named(cloud: Cloud, boot: Boot) -> None:
    reason = failed(cloud, boot("empty", {}))
    assert "core: Field required" in reason
    assert "token: Field required" in reason
