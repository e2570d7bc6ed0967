# SPDX-License-Identifier: Apache-2.0
"""Machines of systemd-nspawn that stand in for Nova's guests.

A guest under an emulated CPU takes minutes for what takes seconds. So Nova boots an image of which
nothing starts, and for each such server a machine boots here: with the config drive that Nova made,
on the server's port (its MAC, its network), until Nova deletes the server. What is not real then is
the hypervisor, and the kernel of the guest; everything else is what a guest would see.
"""

import contextlib
import dataclasses
import subprocess
import threading
from pathlib import Path
from typing import Any

from openstack.connection import Connection

from tests.beds.nspawn import Machine, run
from tests.openstack.lab import Lab

PAUSE = 0.5
SEED = "var/lib/cloud/seed/config_drive"
"""Where cloud-init takes a config drive's files, too."""
FLAVOR = "stand-in"


@dataclasses.dataclass(frozen=True)
class Place:
    """What a machine asks of its cloud: a directory, and a name that no other cloud has."""

    directory: Path
    name: str


class StandIn(Machine):
    """One machine, on a port of Neutron's."""

    def __init__(self, lab: Lab, place: Place, server: Any, port: Any, root: Path) -> None:
        address = str(port.fixed_ips[0]["ip_address"])
        super().__init__(place, server.name, address, port.mac_address, [root])  # type: ignore[arg-type]
        self._bridge = f"br-{port.network_id[:11]}"
        self._device = f"si-{port.id[:11]}"
        self._netns = lab.netns
        _unpack(lab.instance(server.id) / "disk.config", self._root / SEED)

    def _plug_in(self) -> None:
        run("ip", "netns", "del", self._label, check=False)
        run("ip", "netns", "add", self._label)
        run("ip", "-n", self._netns, "link", "del", self._device, check=False)
        inside = ("peer", "name", "ens3", "address", self.mac, "netns", self._label)
        run("ip", "-n", self._netns, "link", "add", self._device, "type", "veth", *inside)
        run("ip", "-n", self._netns, "link", "set", self._device, "master", self._bridge, "up")


def _unpack(drive: Path, into: Path) -> None:
    """The files of a config drive that Nova made, without a mount."""
    listed = ["isoinfo", "-R", "-f", "-i", str(drive)]
    names = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()
    for name in names:
        read = ["isoinfo", "-R", "-i", str(drive), "-x", name]
        text = subprocess.run(read, capture_output=True, check=True).stdout
        if text:
            there = into / name.lstrip("/")
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_bytes(text)


class StandIns:
    """Follows Nova from start to close(): a machine for each server that wants one."""

    def __init__(self, lab: Lab, cloud: Connection, root: Path, directory: Path) -> None:
        self._lab = lab
        self._cloud = cloud
        self._root = root
        self._place = Place(directory, f"cnsmo-si{lab.netns[-6:]}")
        self._stop = threading.Event()
        self.machines: dict[str, StandIn] = {}
        self.said: dict[str, str] = {}
        """Of machines that are gone: the end of what they said."""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def named(self, name: str) -> StandIn:
        """The machine of a server."""
        (found,) = (one for one in self.machines.values() if one.name == name)
        return found

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        for ident in list(self.machines):
            self._end(ident)

    def _run(self) -> None:
        while not self._stop.wait(PAUSE):
            with contextlib.suppress(Exception):  # APIs that answer late; it looks again
                self._look()

    def _look(self) -> None:
        there = {
            server.id: server
            for server in self._cloud.compute.servers()
            if server.status == "ACTIVE" and server.flavor.name == FLAVOR
        }
        for ident in self.machines.keys() - there.keys():
            self._end(ident)
        for ident in there.keys() - self.machines.keys():
            (port,) = self._cloud.network.ports(device_id=ident)
            made = StandIn(self._lab, self._place, there[ident], port, self._root)
            self.machines[ident] = made
            made.start()

    def _end(self, ident: str) -> None:
        made = self.machines.pop(ident)
        self.said[made.name] = made.console()
        made.close()
