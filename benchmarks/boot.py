# SPDX-License-Identifier: Apache-2.0
"""What CNSMO adds to the boot of a VM, and how long it takes from power-on to ready.

The same VM of Debian 12 (QEMU, its processor emulated, one core of it) boots in turns: without
CNSMO; with the user-data of an agent of all three services, its packages from an archive and CNSMO
from a wheelhouse in its own network; and of an image that has all of these. The core is a machine
beside it. What is compared is the processor's time that the emulator has taken when cloud-init
says on the console that it has finished: emulated, each second of a cloud's processor is several.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.figures import Figure, Target, median_of
from benchmarks.run import Run
from cnsmo.boot import render
from tests.beds import disk, image, nspawn
from tests.beds.cloud import LOOK
from tests.beds.disk import Disk
from tests.beds.qemu import Cloud, Machine
from tests.booting import Core, source_of, wheelhouse
from tests.eventually import eventually

RELEASE, PYTHON = "bookworm", "3.11"
SERVICES = "vpn,firewall,loadbalancer"
PLAIN = "#cloud-config\n{}\n"
FINISHED = re.compile(r"Cloud-init v\. \S+ finished at")
STEP = re.compile(r"cnsmo-boot: (.+): ([0-9.]+) s, ([0-9.]+) s of a processor")
TARGET = Target(20.0)
"""Seconds of a processor, of the issue: added to the plain boot where nothing is in the image."""
PATIENCE = 1800.0


@dataclass
class Boot:
    """One boot: seconds to its end, seconds of the processor, and the same of each step."""

    took: float
    work: float
    steps: dict[str, tuple[float, float]] = field(default_factory=dict)


def measure(run: Run) -> list[Figure]:
    """See above."""
    rounds = run.scale.boot_rounds
    run.expect(2 + 3 * rounds)
    run.step("making images")
    made = disk.make(run.directory(), RELEASE)
    wheels = wheelhouse(run.directory(), [PYTHON])
    found: dict[str, list[Boot]] = {"plain": [], "fresh": [], "baked": []}
    with site(run, made, wheels) as (cloud, core):
        baked: Disk | None = None
        for number in range(rounds):
            run.step(f"plain {number}")
            found["plain"].append(booted(cloud, f"plain{number}", made, PLAIN, {})[0])
            told = core.joining(core.tokens["all"], SERVICES)
            text = render.template("agent")
            run.step(f"fresh {number}")
            name = f"fresh{number}"
            boot, machine = booted(cloud, name, made, text, told | source_of(wheels), keep=True)
            found["fresh"].append(boot)
            baked = baked or machine.bake(run.directory() / "baked")
            machine.close()
            run.step(f"baked {number}")
            found["baked"].append(booted(cloud, f"baked{number}", baked, text, told)[0])
    return figures(found, size())


@contextlib.contextmanager
def site(run: Run, made: Disk, wheels: tuple[Path, str]) -> Iterator[tuple[Cloud, Core]]:
    """A cloud with a core in it, which is a machine on this kernel: it is not measured."""
    files = run.directory()
    files.chmod(0o755)
    image.make(files)
    cloud = Cloud(run.directory(), {"wheels": wheels[0], f"archive-{RELEASE}": made.archive})
    try:
        run.step("booting a core")
        machine = nspawn.Machine(cloud, "core", [files])
        told = {"cnsmo_deployment": "shop", "cnsmo_groups": "all=99", **source_of(wheels)}
        cloud.switch_on(machine, render.template("core"), told)
        signal = cloud.signal("core", PATIENCE)
        assert signal["status"] == "SUCCESS", (signal, machine.console())
        yield cloud, Core(machine, signal["data"])
    finally:
        cloud.close()


def booted(
    cloud: Cloud, name: str, made: Disk, text: str, told: dict[str, str], keep: bool = False
) -> tuple[Boot, Machine]:
    """Boot a VM to the end of its cloud-init. keep: it is not ended then."""
    begin = time.monotonic()
    machine = cloud.boot(name, made, text, told)
    ended = eventually(lambda: FINISHED.search(machine.said()), PATIENCE, name, every=LOOK)
    assert ended
    boot = Boot(time.monotonic() - begin, machine.cpu(), steps(machine.said()))
    if told:
        signal = cloud.signal(name, 10)
        assert signal["status"] == "SUCCESS", (signal, machine.console())
    boot.steps |= stages(machine)
    if not keep:
        machine.close()
    return boot, machine


def steps(said: str) -> dict[str, tuple[float, float]]:
    """What the boot says of its own steps: seconds, and seconds of the processor."""
    return {name: (float(took), float(work)) for name, took, work in STEP.findall(said)}


def stages(machine: Machine) -> dict[str, tuple[float, float]]:
    """When the kernel was done, and how long each of cloud-init's stages took."""
    status = json.loads(machine.run("cat", "/run/cloud-init/status.json"))["v1"]
    kernel = machine.run("systemctl", "show", "--value", "-p", "UserspaceTimestampMonotonic")
    found = {"kernel and initrd": (int(kernel) / 1e6, 0.0)}
    for stage in ("init-local", "init", "modules-config", "modules-final"):
        took = status[stage]["finished"] - status[stage]["start"]
        found[f"cloud-init {stage}"] = (took, 0.0)
    used = machine.run("systemctl", "show", "--value", "-p", "CPUUsageNSec", "cnsmo-agent").strip()
    if used.isdigit():
        found["cnsmo-agent"] = (0.0, int(used) / 1e9)
    return found


def size() -> int:
    """Bytes of an agent's user-data, as Nova counts them: in base64."""
    return len(render.template("agent").encode()) * 4 // 3


def figures(found: dict[str, list[Boot]], user_data: int) -> list[Figure]:
    """Lines of the table."""
    plain, fresh, baked = found["plain"], found["fresh"], found["baked"]
    made = [
        median_of("boot: plain, processor", "s", [boot.work for boot in plain]),
        median_of("boot: added by CNSMO, processor", "s", added(fresh, plain), TARGET),
        median_of("boot: added by CNSMO in the image, processor", "s", added(baked, plain)),
        median_of("boot: plain, power-on to end", "s", [boot.took for boot in plain]),
        median_of("boot: power-on to ready", "s", [boot.took for boot in fresh]),
        median_of("boot: power-on to ready, CNSMO in the image", "s", [b.took for b in baked]),
        median_of("boot: user-data of an agent", "bytes", [user_data]),
    ]
    for kind, boots in (("", fresh), (" (in the image)", baked)):
        for name in boots[0].steps:
            took = [boot.steps[name][0] for boot in boots]
            work = [boot.steps[name][1] for boot in boots]
            if any(took):
                made.append(median_of(f"boot: {name}{kind}", "s", took))
            if any(work):
                made.append(median_of(f"boot: {name}{kind}, processor", "s", work))
    return made


def added(boots: list[Boot], plain: list[Boot]) -> list[float]:
    """What each cost more than the plain boot of its round."""
    return [boot.work - other.work for boot, other in zip(boots, plain, strict=True)]
