# SPDX-License-Identifier: Apache-2.0
"""A simulated VM: its own network, mounts, processes, host name; a disk that outlives reboots.

It shares the machine's files, but has a /run of its own, as after a boot, and sees only its own
processes. When its init dies, everything in it dies. Nobody needs to stay with it: a VM outlives
the process that started it.

The disk is a directory, under the same path inside and outside, so that an agent that runs outside
can act for the VM.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from cnsmo.agent.system import LocalSystem
from cnsmo.lab import record
from cnsmo.lab.boot import Boot
from cnsmo.lab.errors import LabError
from cnsmo.lab.network import NETNS, Network
from cnsmo.lab.process import Process, kill_all_within
from cnsmo.lab.topology import ROUTER, Seat

FIREWALLS = "agent/units/firewall/*/nftables/good.nft"
"""On a VM's disk: what the unit cnsmo-firewall.service loads before there is a network."""


class Vm:
    """One VM of a lab. The object holds nothing: any process may make one and act."""

    def __init__(self, seat: Seat, network: Network, directory: Path) -> None:
        """directory: the lab's."""
        self.seat = seat
        self.network = network
        self.disk = directory / "vms" / seat.name
        self._record = directory / "run" / f"{seat.name}.json"

    @property
    def name(self) -> str:
        """Its name, which is its host name."""
        return self.seat.name

    @property
    def namespace(self) -> str:
        """The name of its network namespace."""
        return self.network.namespace(self.name)

    @property
    def is_running(self) -> bool:
        """Whether its init is there; a process that only has its number does not count."""
        recorded = self.recorded()
        return bool(recorded) and recorded[0].alive

    @property
    def pid(self) -> int:
        """The process id of its init, from outside.

        :raises LabError: when it is not running.
        """
        recorded = self.recorded()
        if not recorded or not recorded[0].alive:
            raise LabError(f"VM {self.name} is not running: start it")
        return recorded[0].pid

    @property
    def enter(self) -> tuple[str, ...]:
        """The command prefix that leads inside. Raises LabError when it is not running."""
        return ("nsenter", "-t", str(self.pid), "-n", "-m", "-p", "-u", "-i", "--")

    def system(self) -> LocalSystem:
        """Runs programs inside, until the VM stops or reboots; then ask again.

        :raises LabError: when it is not running.
        """
        return LocalSystem(self.enter)

    def start(self) -> None:
        """Boot it, with its network as new; nothing when it is running.

        :raises LabError: when its init does not come up; with what it said.
        """
        if self.is_running:
            return
        if self.network.namespace(ROUTER) not in self.network.present():
            raise LabError(
                f"the lab's network is gone (was this machine rebooted?): take lab "
                f"{self.network.lab} down and up again"
            )
        self.stop()
        self.network.plug(self.seat, sorted(self.disk.glob(FIREWALLS)))
        self.booted(self.boot())

    def stop(self) -> None:
        """Power it off, at once; returns when all its processes and interfaces are gone."""
        power_off([self])
        inode = self.network.present().get(self.namespace)
        if inode is not None:
            kill_all_within({inode})  # who got in by another way, or was never recorded
        self.network.unplug(self.seat)
        self._record.unlink(missing_ok=True)

    def reboot(self) -> None:
        """Power off and on: only the disk survives."""
        self.stop()
        self.start()

    def boot(self) -> Boot:
        """Begin to start init in the network that is there; `booted` has to follow."""
        self.disk.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._record.parent.mkdir(mode=0o700, exist_ok=True)
        return Boot(self.name, NETNS / self.namespace, self._record.with_suffix(""))

    def booted(self, boot: Boot) -> None:
        """Wait until init is up, and remember it."""
        init, outer = boot.wait()
        record.write(
            self._record, {"init": dataclasses.asdict(init), "outer": dataclasses.asdict(outer)}
        )

    def recorded(self) -> list[Process]:
        """Its init, and the process outside that waits for it, as they were once."""
        body = record.read(self._record)
        return [Process(**body[name]) for name in ("init", "outer")] if body else []


def power_off(vms: Iterable[Vm]) -> None:
    """End the inits of VMs, and with each all that is inside; returns when they are gone."""
    recorded = [processes for vm in vms if (processes := vm.recorded())]
    for init, _ in recorded:
        init.signal_kill()
    for init, outer in recorded:
        init.kill()
        outer.wait()  # it takes the corpse away, and ends
