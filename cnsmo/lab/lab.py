# SPDX-License-Identifier: Apache-2.0
"""A lab: simulated VMs at several sites on this machine, from up to down.

What will be made is written to ``lab.json`` before it is made. So any process can take a lab down,
wherever the one that made it was killed, and nothing is left: no namespace, interface, process,
mount or file. (iproute2 itself keeps its empty, mounted /run/netns.)
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from oslo_log import log

from cnsmo.agent.system import LocalSystem
from cnsmo.files import draft
from cnsmo.lab import claim, place, record, requirements, rootless
from cnsmo.lab.errors import LabError
from cnsmo.lab.faults import Faults
from cnsmo.lab.network import Network
from cnsmo.lab.process import Process, child_of, kill_all_within
from cnsmo.lab.topology import CORE, Plan, Topology, VmSpec
from cnsmo.lab.vm import Vm, power_off
from cnsmo.model.errors import CnsmoError, Conflict, NotFound

LOG = log.getLogger(__name__)


class Lab:
    """A lab by its directory, whose last part is its name. Up or not: see `is_up`."""

    def __init__(self, directory: Path) -> None:
        """directory: need not exist; see `place`. Raises InvalidRequest."""
        self.directory = place.check(directory)
        self.name = self.directory.name
        self._state = self.directory / claim.STATE

    @classmethod
    def load(cls, directory: Path) -> Lab:
        """A lab that is up, or what is left of it.

        :raises NotFound: when there is none in the directory.
        """
        lab = cls(directory)
        if not lab.is_up:
            raise NotFound(f"there is no lab in {lab.directory}")
        return lab

    @property
    def is_up(self) -> bool:
        """Whether it was brought up, be it half, and not taken down yet."""
        return self._state.exists()

    @property
    def plan(self) -> Plan:
        """The seats of its VMs. Raises NotFound when it is not up."""
        return self._read()[0]

    @property
    def keeper(self) -> Process | None:
        """Of a rootless lab: the process by whose id it is entered, and with which it ends."""
        return self._read()[1]

    @property
    def network(self) -> Network:
        """Its underlay."""
        return Network(self.name, self.plan)

    @property
    def faults(self) -> Faults:
        """What can be broken in its underlay."""
        return Faults(self.network)

    def core(self) -> LocalSystem:
        """Runs programs where all VMs can call them, at `topology.core_address`.

        :raises NotFound: when the lab's topology has no core.
        """
        network = self.network
        network.plan.site_number(CORE)
        return network.system(CORE)

    def vms(self) -> tuple[Vm, ...]:
        """All its VMs, running or not."""
        network = self.network
        return tuple(Vm(seat, network, self.directory) for seat in network.plan.seats)

    def vm(self, name: str) -> Vm:
        """One VM. Raises NotFound when there is none of that name."""
        network = self.network
        return Vm(network.plan.seat(name), network, self.directory)

    def up(self, topology: Topology) -> None:
        """Make it, and start all its VMs; all of it, or nothing.

        :raises LabUnavailable: when this machine cannot hold a lab.
        :raises Conflict: when a lab of that name is up, or the directory has something in it.
        """
        plan = Plan.of(topology)
        requirements.check()
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._locked():
            if self.is_up:
                raise Conflict(f"lab {self.name!r} is up already, in {self.directory}")
            if self._strangers():
                raise Conflict(f"{self.directory} is not empty: take another directory")
            try:
                self._claim(plan)
                self.network.build()
                boots = [(vm, vm.boot()) for vm in self.vms()]
                for vm, boot in boots:
                    vm.booted(boot)
            except BaseException:
                self._down()
                raise
        LOG.info("lab %s is up, with %d VMs, in %s", self.name, len(plan.seats), self.directory)

    def add(self, spec: VmSpec) -> Vm:
        """One more VM, started. When it does not start, the lab is as before."""
        with self._locked():
            self._write(self.plan.add(spec))
            vm = self.vm(spec.name)
            try:
                vm.start()
                vm.network.introduce(vm.seat)
            except BaseException:
                self._remove(vm)
                raise
        return vm

    def remove(self, name: str) -> None:
        """Take a VM away with its disk. Raises NotFound when there is none of that name."""
        with self._locked():
            self._remove(self.vm(name))

    def down(self) -> None:
        """Take everything away, whatever state it is in; nothing when there is nothing."""
        with contextlib.suppress(NotFound), self._locked():
            if self._strangers() and not self.is_up:
                raise LabError(f"{self.directory} has files but no lab: look what they are")
            self._down()
            LOG.info("lab %s is down", self.name)

    def _strangers(self) -> set[Path]:
        """What is in the directory and is no beginning of a lab."""
        return set(self.directory.iterdir()) - {draft(self._state)}

    def _claim(self, plan: Plan) -> None:
        """Write down what will be made, and make sure that nobody else has its names."""
        self._write(plan)
        claim.claim(self.name, self.directory)
        taken = self.network.present()
        if taken:
            claim.release(self.name, self.directory)  # so that they are left alone
            ways = "; ".join(f"ip netns delete {name}" for name in taken)
            raise Conflict(f"namespaces of a lab {self.name!r} exist: take another name, or {ways}")

    def _remove(self, vm: Vm) -> None:
        vm.stop()
        vm.network.unplug(vm.seat, box=True)
        shutil.rmtree(vm.disk, ignore_errors=True)
        self._write(self.plan.without(vm.name))

    def _down(self) -> None:
        keeper = self.keeper if self.is_up else None
        if keeper != rootless.keeper() and keeper is not None:
            with contextlib.suppress(ProcessLookupError):
                init = child_of(keeper.pid) if keeper.alive else None
                keeper.kill()
                if init is not None:
                    init.wait()
        elif self.is_up and claim.owner(self.name) == self.directory:
            power_off(self.vms())
            network = self.network
            kill_all_within(set(network.present().values()))
            network.destroy()
            claim.release(self.name, self.directory)
        for entry in self.directory.iterdir():
            if entry != self._state:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        self._state.unlink(missing_ok=True)
        self._remove_directory()

    def _remove_directory(self) -> None:
        self.directory.rmdir()
        if self.directory.parent == place.base():
            with contextlib.suppress(OSError):  # others are left
                self.directory.parent.rmdir()

    def _read(self) -> tuple[Plan, Process | None]:
        body = record.read(self._state)
        if body is None:
            raise NotFound(f"there is no lab in {self.directory}")
        try:
            keeper = body["keeper"]
            return Plan.from_json(body["plan"]), Process(**keeper) if keeper else None
        except (KeyError, TypeError, CnsmoError) as exc:
            raise LabError(f"{self._state} is not of this release ({exc!r}): delete it") from exc

    def _write(self, plan: Plan) -> None:
        keeper = rootless.keeper()
        record.write(
            self._state,
            {"plan": plan.to_json(), "keeper": dataclasses.asdict(keeper) if keeper else None},
        )

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One at a time changes the lab, across processes. Raises NotFound without a directory."""
        try:
            fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError as exc:
            raise NotFound(f"there is no lab in {self.directory}") from exc
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink == 0:
                raise NotFound(f"lab {self.name!r} was taken down this moment")
            yield
        finally:
            os.close(fd)


def labs() -> list[Lab]:
    """All labs of this account that are up: at the usual place, and elsewhere on this machine."""
    usual = place.base()
    found = {*claim.claims().values(), *(usual.iterdir() if usual.is_dir() else ())}
    return [Lab(where) for where in sorted(found) if (where / claim.STATE).exists()]
