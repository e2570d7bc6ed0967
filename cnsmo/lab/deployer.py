# SPDX-License-Identifier: Apache-2.0
"""The deployer of a lab: VMs that are network namespaces; their agents join by themselves."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from oslo_config import cfg

from cnsmo.cloud.deployer import Deployer, Order, Server, Status
from cnsmo.lab import place
from cnsmo.lab.lab import Lab, labs
from cnsmo.lab.remote import RemoteHub
from cnsmo.lab.topology import VmSpec
from cnsmo.lab.vm import Vm
from cnsmo.model.errors import Conflict, InvalidRequest, NotFound

DEPLOYMENT = "lab"
SITE = "east"
"""Where a VM is that was ordered without a network."""


class LabDeployer(Deployer):
    """Works in the lab that $CNSMO_LAB names, or in the only one that is up."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        super().__init__(conf)
        self._lock = threading.Lock()

    @property
    def lab(self) -> Lab:
        """The lab that is meant.

        :raises NotFound: when none is up.
        :raises Conflict: when several are.
        """
        named = os.environ.get("CNSMO_LAB", "")
        if named:
            path = Path(named) if "/" in named else place.default_directory(named)
            return Lab.load(path)
        found = labs()
        if not found:
            raise NotFound("no lab is up: 'cnsmo-manage lab up' raises one")
        if len(found) > 1:
            raise Conflict("which lab? Say it with export CNSMO_LAB=NAME")
        return found[0]

    def check(self, order: Order) -> None:
        """A lab has sites in place of networks, and nothing to choose beside them."""
        plan = self.lab.plan
        if order.network:
            plan.site_number(order.network)

    def boot(self, order: Order) -> Server:
        """A namespace, and an agent in it; of the user-data, nothing is used."""
        spec = VmSpec(order.name, order.network or SITE, order.groups)
        with self._lock:
            vm = self.lab.add(spec)
            RemoteHub(self.lab.directory).ask("agent-start", [vm.name])
        return _server(vm)

    def servers(self) -> list[Server]:
        """All VMs of the lab."""
        return [_server(vm) for vm in self.lab.vms()]

    def refresh(self, server: Server) -> Server:
        """Ask the kernel."""
        return _server(self.lab.vm(server.name))

    def mark(self, server: Server, deployment: str, groups: tuple[str, ...]) -> Server:
        """All VMs of a lab are of its one deployment."""
        raise InvalidRequest(f"{server.name} is of the lab's deployment, as all its VMs are")

    def remove(self, server: Server) -> None:
        """Power it off, and forget it."""
        with self._lock:
            RemoteHub(self.lab.directory).ask("agent-stop", [server.name])
            self.lab.remove(server.name)


def _server(vm: Vm) -> Server:
    return Server(
        id=vm.name,
        name=vm.name,
        status=Status.RUNNING if vm.is_running else Status.STOPPED,
        deployment=DEPLOYMENT,
        groups=vm.seat.spec.groups,
        private=(str(vm.seat.address.ip),),
        zone=vm.seat.spec.site,
    )
