# SPDX-License-Identifier: Apache-2.0
"""The disk that the agent keeps its replica on is full."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnsmo.model.lifecycle import State
from tests.beds.full import fill
from tests.integration.fleet import SHOP, Fleet

SECOND = (
    "  {name}: {{cidr: 10.7.{number}.0/24, driver: noop, members: [db], listen_port: {port}}}\n"
)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(place)], check=True)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def document(others: int) -> str:
    """The shop's, with some VPNs that are not this host's: they are in its replica only."""
    return SHOP + "".join(
        SECOND.format(name=f"db{number}", number=number, port=52000 + number)
        for number in range(others)
    )


def test_a_full_disk_is_reported_and_heals(fleet: Fleet, small_disk: Path) -> None:
    fleet.token(groups=("db",))
    fleet.apply(document(1))
    agent = fleet.agent("web1", state_dir=small_disk / "state", resync=1)
    fleet.until_ready("web1")
    replica = agent.state_dir / "replica-all.json"
    filler = fill(small_disk)
    before = replica.read_text()
    plan = fleet.apply(document(20))  # more than the rest of the last block
    fleet.until(lambda: fleet.agents()["web1"].state is State.DEGRADED, "web1 is degraded")
    found = fleet.agents()["web1"]
    assert found.reason == "the replica cannot be written to disk: No space left on device"
    fleet.until(lambda: fleet.agents()["web1"].applied_revision >= (plan.revision or 0), "applied")
    assert replica.read_text() == before
    filler.unlink()
    fleet.until_ready("web1")
    assert '"db19"' in replica.read_text()
    agent.kill()
    agent.start().says("from disk")
    assert "set aside" not in agent.said


def test_a_disk_full_from_the_start_ends_the_agent_with_a_clear_message(
    fleet: Fleet, small_disk: Path
) -> None:
    state = small_disk / "state"
    state.mkdir()
    fill(small_disk)
    agent = fleet.agent("web1", state_dir=state)
    assert agent.ends() == 1
    assert "Traceback" not in agent.said
    assert "cnsmo-agent: " in agent.said
    assert "No space left on device" in agent.said
    assert fleet.agents() == {}
