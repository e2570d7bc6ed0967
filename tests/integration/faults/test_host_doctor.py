# SPDX-License-Identifier: Apache-2.0
"""What a VM's own doctor finds, with a real agent; and a disk that is full."""

import datetime
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cnsmo.agent.identity import CERTIFICATE
from cnsmo.trust import authority, certificates, keys
from tests.integration.faults.test_disk_is_full import fill
from tests.integration.faults.test_doctor import an_hour_ahead, hours  # noqa: F401
from tests.integration.fleet import Agent, Fleet

WELL, WARNING, CRITICAL, UNKNOWN = range(4)
Found = tuple[int, str]


def doctor(agent: Agent, *more: str, config: Path | None = None, **env: str) -> Found:
    """Exit code, and what was found."""
    used = config or agent.log.with_suffix(".conf")
    command = [sys.executable, "-m", "cnsmo.cmd.manage", f"--config-file={used}", "doctor"]
    done = subprocess.run(
        [*command, "--host", "-f", "json", *(f"--only={it}" for it in more)],
        capture_output=True, text=True, timeout=110, env={**os.environ, **env},
    )  # fmt: skip
    symptoms = json.loads(done.stdout)["symptoms"]
    return done.returncode, "; ".join(it["text"] for one in symptoms for it in one["findings"])


@pytest.fixture
def agent(fleet: Fleet) -> Agent:
    """It has joined, and is ready."""
    made = fleet.agent("web1", heartbeat=1)
    fleet.apply()
    fleet.until_ready("web1")
    fleet.until(lambda: doctor(made) == (WELL, ""), "all is well")
    return made


def test_an_agent_that_does_not_run(agent: Agent) -> None:
    agent.kill()
    code, text = doctor(agent, "agent-away")
    assert (code, text) == (CRITICAL, f"no cnsmo-agent works in {agent.state_dir}")


def test_a_vm_that_has_not_joined(fleet: Fleet) -> None:
    agent = fleet.agent("web1", token="t-0123456789ab.nonsense")
    fleet.until(lambda: not agent.process.alive, "it ends")
    code, text = doctor(agent)
    assert code == CRITICAL
    assert "this VM has not joined" in text
    assert "the join token is not valid" in text


def test_a_core_and_a_broker_that_are_away(agent: Agent, fleet: Fleet, rabbitmq) -> None:
    fleet.programs[0].kill()
    code, text = doctor(agent, "way-to-core")
    assert (code, "no core lets hosts join at" in text) == (WARNING, True)
    rabbitmq.kill()
    code, text = doctor(agent, "way-to-core")
    assert (code, "the broker cannot be reached" in text) == (CRITICAL, True)


def test_a_clock_that_is_not_the_cores(
    agent: Agent,
    an_hour_ahead: dict[str, str],  # noqa: F811
) -> None:
    code, text = doctor(agent, "clock", **an_hour_ahead)
    assert (code, "the clock of this VM is" in text, hours(text)) == (CRITICAL, True, 1)


def test_a_unit_that_is_not_in_force(agent: Agent, fleet: Fleet) -> None:
    path = agent.state_dir / "units" / "vpn" / "other"
    path.parent.mkdir(exist_ok=True)
    path.write_text("in the way")
    fleet.apply("deployment: shop\nvpn:\n  other: {cidr: 10.67.0.0/16, driver: noop}\n")
    fleet.until(lambda: doctor(agent, "not-in-force")[0] == CRITICAL, "it is in error")
    assert "vpn: " in doctor(agent, "not-in-force")[1]


@pytest.mark.parametrize(("days", "code"), [(60, WELL), (10, WARNING), (-1, CRITICAL)])
def test_a_certificate_that_was_not_renewed(
    agent: Agent, fleet: Fleet, days: int, code: int
) -> None:
    ca = authority.load(Path(fleet.conf.join.ca_directory))
    now = datetime.datetime.now(datetime.UTC)
    key = keys.load_key((agent.state_dir / "host.key").read_text()).public_key()
    life = datetime.timedelta(days=90)
    made = ca.sign_host(
        key, "h-1", "shop", "web1", now + datetime.timedelta(days=days) - life, life
    )
    (agent.state_dir / CERTIFICATE).write_text(certificates.pem(made))
    assert doctor(agent, "certificate-ends")[0] == code


def test_files_that_others_can_read(agent: Agent) -> None:
    (agent.state_dir / "identity.json").chmod(0o644)
    assert doctor(agent, "file-modes") == (WELL, ""), "nobody enters the directory"
    agent.state_dir.chmod(0o755)
    code, text = doctor(agent, "file-modes")
    assert code == CRITICAL
    assert f"{agent.state_dir}/identity.json (mode 0644)" in text


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """disk(MiB): a file system of that size."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    places: list[Path] = []

    def mount(size: int) -> Path:
        place = tmp_path / f"disk{len(places)}"
        place.mkdir()
        options = f"size={size}m,mode=0700"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(place)], check=True)
        places.append(place)
        return place

    yield mount
    for place in places:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_disk_that_is_full(agent: Agent, disk: Callable[[int], Path], tmp_path: Path) -> None:
    place = disk(8)
    agent.stop()
    state = place / "agent"
    shutil.copytree(agent.state_dir, state)
    config = tmp_path / "moved.conf"
    text = agent.log.with_suffix(".conf").read_text()
    config.write_text(text.replace(str(agent.state_dir), str(state)))
    assert doctor(agent, "no-space", config=config) == (WELL, "")
    fill(place)
    code, told = doctor(agent, "no-space", config=config)
    assert (code, "0 MiB (0%) are left" in told) == (CRITICAL, True)


def test_a_cores_disk_that_fills(disk: Callable[[int], Path], fleet: Fleet) -> None:
    place = disk(1024)
    settings = {"database": {"connection": f"sqlite:///{place}/state.sqlite"}}
    config = fleet._config("full", settings)

    def look() -> Found:
        command = [sys.executable, "-m", "cnsmo.cmd.manage", f"--config-file={config}", "doctor"]
        done = subprocess.run(
            [*command, "--only=no-space", "-f", "json"], capture_output=True, text=True, timeout=60
        )
        (looked,) = json.loads(done.stdout)["symptoms"]
        return done.returncode, "; ".join(it["text"] for it in looked["findings"])

    assert look() == (WELL, "")
    for size, code in ((950, WARNING), (50, CRITICAL)):
        with open(place / str(size), "wb") as file:
            os.posix_fallocate(file.fileno(), 0, size * 1024 * 1024)
        assert look()[0] == code
