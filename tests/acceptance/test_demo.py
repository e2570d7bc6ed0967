# SPDX-License-Identifier: Apache-2.0
"""The main job, as a person runs it: the demo keeps its promises, and leaves nothing behind."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

MANAGE = [sys.executable, "-m", "cnsmo.cmd.manage"]
PROMISES = (
    "30 of 30 pairs answer over the VPN",
    "a seventh VM joined: web3, all 42 pairs answer",
    "app2 removed: a peer of none of the other 6, and it has taken its own interface down",
    "core and agents killed with SIGKILL: all 30 pairs still answer",
    "web1 rebooted while the core is away: back from its own disk, 5 peers, all reachable",
    "core back: all 6 agents ready, agreed on revision",
)

pytestmark = pytest.mark.timeout(240)


def manage(*words: str, stdin: str = "", lab: str = "") -> subprocess.CompletedProcess[str]:
    """Run cnsmo-manage as a process of its own."""
    env = {**os.environ, **({"CNSMO_LAB": lab} if lab else {})}
    return subprocess.run(
        [*MANAGE, *words], input=stdin, capture_output=True, text=True, check=False, env=env
    )


def left_behind() -> tuple[list[str], list[str], list[str]]:
    """Namespaces, interfaces, and processes that belong to a lab."""
    spaces = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    links = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout
    processes = subprocess.run(["ps", "-A", "-o", "args="], capture_output=True, text=True)
    ours = [line for line in processes.stdout.splitlines() if "cnsmo.cmd.hub" in line]
    return sorted(spaces.splitlines()), [line.split()[0] for line in links.splitlines()], ours


@pytest.fixture
def standing() -> Iterator[str]:
    """The name of a lab that the demo left standing."""
    done = manage("lab", "demo", "--keep", "--name", "kept")
    yield "kept" if done.returncode == 0 else done.stdout + done.stderr
    manage("lab", "down", "--lab", "kept")


def test_the_demo_keeps_every_promise_and_leaves_nothing() -> None:
    before = left_behind()
    done = manage("lab", "demo", "--name", "shown")
    assert done.returncode == 0, done.stdout + done.stderr
    for promise in PROMISES:
        assert f"✔ {promise}" in done.stdout
    assert "✘" not in done.stdout
    assert "Every promise was kept" in done.stdout
    assert left_behind() == before
    assert not Path("/var/lib/cnsmo-lab/shown").exists()


def test_a_lab_that_stands_answers_like_a_deployment(standing: str, tmp_path: Path) -> None:
    assert standing == "kept"
    hosts = json.loads(manage("host", "list", "-f", "json", lab="kept").stdout)
    assert {host["name"] for host in hosts} == {"web1", "web2", "web3", "db1", "app1", "app3"}
    listed = json.loads(manage("lab", "list", "--lab", "kept", "-f", "json").stdout)
    assert {vm["name"] for vm in listed} == {host["name"] for host in hosts}
    address = next(iter(hosts[0]["vpn_addresses"].values()))[0]
    other = hosts[1]["name"]
    inside = manage("lab", "exec", "--lab", "kept", other, "--", "ping", "-c1", "-w5", address)
    assert inside.returncode == 0, inside.stdout + inside.stderr
    assert manage("lab", "exec", "--lab", "kept", other, "--", "false").returncode == 1
    document = "deployment: lab\nvpn: {backbone: {cidr: 10.66.0.0/16, mtu: 1300}}\n"
    (tmp_path / "mesh.yaml").write_text(document)
    applied = manage("apply", str(tmp_path / "mesh.yaml"), "--wait", lab="kept")
    assert applied.returncode == 0, applied.stdout + applied.stderr
    shown = manage("lab", "exec", "--lab", "kept", other, "--", "ip", "link", "show", "cn-backbone")
    assert "mtu 1300" in shown.stdout
    again = manage("lab", "demo", "--name", "kept")
    assert again.returncode != 0
    assert "is up already" in again.stderr


def test_a_second_demo_of_that_name_does_not_take_the_first_one_down(standing: str) -> None:
    assert standing == "kept"
    refused = manage("lab", "demo", "--name", "kept")
    assert refused.returncode != 0
    assert manage("lab", "exec", "--lab", "kept", "web1", "--", "true").returncode == 0
