# SPDX-License-Identifier: Apache-2.0
"""The systemd units: sound, and with no more rights than the page on security says."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
UNITS = sorted((TOP / "etc" / "systemd").glob("*.service"))
PAGE = (TOP / "doc" / "security.md").read_text()
TOOL = "systemd-analyze"

each_unit = pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)


@pytest.fixture
def analyze(tmp_path: Path) -> Path:
    """Copies of all units, where nothing else is beside them."""
    if shutil.which(TOOL) is None:
        pytest.skip(f"{TOOL} is not installed: tools/test.sh installs it")
    for unit in UNITS:
        shutil.copy(unit, tmp_path)
    return tmp_path


def run(place: Path, *words: str) -> str:
    command = [TOOL, *words]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def service(unit: Path) -> dict[str, list[str]]:
    """The options of a unit's section [Service], each with all its words."""
    found: dict[str, list[str]] = {}
    section = unit.read_text().partition("[Service]")[2].partition("[Install]")[0]
    for line in section.splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).extend(value.split())
    return found


def told_figure(unit: Path) -> float:
    """The figure that the page on security has for a unit."""
    found = re.search(rf"^\| `{re.escape(unit.name)}` \| ([0-9.]+) \|", PAGE, re.M)
    assert found, f"doc/security.md has no figure for {unit.name}"
    return float(found.group(1))


@each_unit
def test_systemd_finds_nothing_wrong_with_a_unit(analyze: Path, unit: Path) -> None:
    assert run(analyze, "verify", f"./{unit.name}") == ""


@each_unit
def test_a_unit_is_no_more_exposed_than_the_page_says(analyze: Path, unit: Path) -> None:
    said = run(analyze, "security", "--offline=true", "--no-pager", f"./{unit.name}")
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert found, said
    assert float(found.group(1)) <= told_figure(unit)


@each_unit
def test_a_unit_can_gain_nothing(unit: Path) -> None:
    options = service(unit)
    assert options["NoNewPrivileges"] == ["yes"]
    assert options["UMask"] == ["0077"]
    assert options["ProtectSystem"][0] in ("full", "strict")
    assert "CAP_SYS_ADMIN" not in options["CapabilityBoundingSet"]
    for name in ("ProtectHome", "ProtectKernelModules", "RestrictNamespaces", "RestrictSUIDSGID"):
        assert options[name] == ["yes"], name


def test_the_core_has_no_capability_and_an_account_of_its_own() -> None:
    options = service(TOP / "etc" / "systemd" / "cnsmo-core.service")
    assert options["CapabilityBoundingSet"] == []
    assert options["User"] == ["cnsmo"]


def test_an_agent_of_one_service_may_do_what_that_of_all_may() -> None:
    one, all_of_them = (
        service(TOP / "etc" / "systemd" / name)
        for name in ("cnsmo-agent@.service", "cnsmo-agent.service")
    )
    assert {**one, "ExecStart": None} == {**all_of_them, "ExecStart": None}


def test_what_agents_run_and_change_is_left_to_them() -> None:
    """Options that would break a driver: forwarding, daemons' accounts, what outlives the agent."""
    options = service(TOP / "etc" / "systemd" / "cnsmo-agent.service")
    breaking = {
        "MemoryDenyWriteExecute", "PrivateDevices", "PrivateNetwork", "PrivateTmp",
        "PrivateUsers", "ProcSubset", "ProtectKernelTunables", "ProtectProc",
    }  # fmt: skip
    assert breaking.isdisjoint(options)
    assert "/dev/net/tun" in options["DeviceAllow"]
    assert {"CAP_NET_ADMIN", "CAP_SETUID"} <= set(options["CapabilityBoundingSet"])


def test_units_are_read_as_systemd_reads_them() -> None:
    """Keys that stand twice add up: configparser would take the last."""
    unit = TOP / "etc" / "systemd" / "cnsmo-core.service"
    parser = configparser.RawConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(unit.read_text())
    assert set(parser["Service"]) == set(service(unit))
