# SPDX-License-Identifier: Apache-2.0
"""A WireGuard interface of our own: made by the kernel, or by a wireguard-go that we look after."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from cnsmo.model.errors import DriverError, DriverUnavailable, ProgramError
from cnsmo.services.base import System
from cnsmo.services.kit.daemon import Daemon
from cnsmo.services.kit.link import (
    VPN,
    Link,
    delete_link,
    interface_name,
    is_ours,
    mark,
    read_link,
    require_ours,
    run_batch,
)
from cnsmo.services.vpn.drivers.wg_memory import load_memory, save_memory
from cnsmo.services.vpn.drivers.wg_tools import WgDevice, read_device

AUTO, KERNEL, USERSPACE = "auto", "kernel", "userspace"
WIREGUARD_GO = "wireguard-go"
TAKEN = "File exists"
"""What ip(8) says of a name that is given already."""
SOCKETS = "/var/run/wireguard"
"""Where wireguard-go listens for wg(8): <interface>.sock."""
LISTENING = "00010000"
"""__SO_ACCEPTCON among the flags in /proc/net/unix, see unix_seq_show in net/unix/af_unix.c."""
START_SECONDS = 5.0
"""How long wireguard-go may take until it answers, or until it has gone."""
STOP_SECONDS = 2.0
"""How long it may take to end when asked to; it does nothing that must be finished."""


class WireguardOptions(BaseModel):
    """The driver_options of the driver ``wireguard``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    implementation: Literal["auto", "kernel", "userspace"] = Field(
        "auto", description="auto: the kernel's WireGuard where it is there, else wireguard-go."
    )


def made_by(link: Link) -> str:
    """Which implementation an interface is of."""
    return KERNEL if link.kind == "wireguard" else USERSPACE


class WgInterface:
    """The interface of one unit."""

    def __init__(self, system: System, unit: str, label: str, state_dir: Path) -> None:
        self.name = interface_name(VPN, unit)
        self._system = system
        self._label = label
        self._state_dir = state_dir
        self._daemon = Daemon(system, state_dir, WIREGUARD_GO, "-f", self.name)
        self._checked = False

    def check(self) -> None:
        """Find out whether one of the two implementations is here.

        :raises DriverUnavailable: with the package that is missing.
        """
        if self._checked:  # asked for at every turn, and what was installed stays
            return
        has_go = self._system.has(WIREGUARD_GO)
        tun = self._system.run("test", "-c", "/dev/net/tun", ok=(0, 1)).code == 0
        if (has_go and tun) or self._kernel_can():
            self._checked = True
            return
        if not has_go:
            raise DriverUnavailable(
                "the kernel has no WireGuard and wireguard-go is not installed: install the "
                "package wireguard-go, or a kernel with the module wireguard"
            )
        raise DriverUnavailable(
            "the kernel has no WireGuard, and wireguard-go needs /dev/net/tun, which is missing: "
            "load the module tun, or allow the container to use the device"
        )

    def read_device(self, link: Link | None) -> WgDevice | None:
        """What the device has; None when there is none, or its daemon does not answer.

        :raises ProgramError: when the kernel's does not: there is nothing to replace it by.
        """
        if link is None or not self._is_ours(link):
            return None
        for _again in range(2):  # a busy machine is slow; only what stays deaf is replaced
            try:
                return read_device(self._system, self.name)
            except ProgramError:
                if made_by(link) == KERNEL:
                    raise
        return None

    def require_ours(self, link: Link | None) -> None:
        """Refuse to touch an interface that somebody else made.

        :raises DriverError: with the remedy.
        """
        if link is not None and not self._is_ours(link):
            require_ours(link, self._label)

    def ensure(self, wanted: str, link: Link | None, device: WgDevice | None) -> list[str]:
        """Make the interface, unless it is there, answers and is of the wanted implementation.

        :return: what was done, one line each.
        :raises DriverError, ProgramError: when it could not be made.
        """
        if link is not None and device is not None and wanted in (AUTO, made_by(link)):
            if is_ours(link, self._label):
                return []
            self._set_mark()
            return [f"{self.name}: marked as ours"]
        self._take_down(link)
        save_memory(
            self._state_dir, load_memory(self._state_dir).model_copy(update={"creating": True})
        )
        used = KERNEL if wanted != USERSPACE and self._make_kernel(wanted) else USERSPACE
        if used == USERSPACE:
            self._make_userspace()
        self._set_mark()
        return [f"{self.name}: interface made ({used})"]

    def remove(self) -> None:
        """Take the interface away, with its daemon and its socket; not what is somebody else's."""
        link = read_link(self._system, self.name)
        had_daemon = self._daemon.log.exists()
        self._daemon.stop(STOP_SECONDS)
        if link is not None and not self._is_ours(link):
            return
        self._take_down(link)
        if had_daemon:
            self._system.run("rm", "-f", f"{SOCKETS}/{self.name}.sock")
            self._system.run("rmdir", "--ignore-fail-on-non-empty", SOCKETS, ok=(0, 1))

    def _is_ours(self, link: Link) -> bool:
        if is_ours(link, self._label):
            return True
        return not link.alias and load_memory(self._state_dir).creating

    def _set_mark(self) -> None:
        run_batch(self._system, [f"link set dev {self.name} alias {mark(self._label)}"])

    def _kernel_can(self) -> bool:
        probe = f"{self.name[:10]}-try"
        if self._add_link(probe):
            return False
        delete_link(self._system, probe)
        return True

    def _add_link(self, name: str) -> str:
        """Make a kernel interface; returns what ip(8) said against it."""
        args = ("ip", "link", "add", "dev", name, "type", "wireguard")
        done = self._system.run(*args, ok=range(256))
        return done.stderr.strip() if done.code else ""

    def _make_kernel(self, wanted: str) -> bool:
        """Whether the kernel made it; its absence is an error only if nothing else is wanted."""
        said = self._add_link(self.name)
        if TAKEN in said:
            self._take_over()
            said = self._add_link(self.name)
        if not said:
            return True
        missing = "Unknown device type" in said or "not supported" in said
        if missing and wanted == AUTO:
            return False
        if missing:
            raise DriverUnavailable(
                "driver_options.implementation is kernel, and this kernel has no WireGuard: "
                "install one with the module wireguard, or write auto or userspace"
            )
        raise ProgramError(f"{self.name} cannot be made: {said}")

    def _take_over(self) -> None:
        """What a daemon made since we looked, that an agent had started and did not outlive."""
        link = read_link(self._system, self.name)
        self.require_ours(link)
        self._take_down(link)

    def _make_userspace(self) -> None:
        self._daemon.start()
        until = time.monotonic() + START_SECONDS
        while not (self._listens() and self._answers()):
            if self._daemon.pid is None:
                raise self._daemon.died()
            if time.monotonic() > until:
                raise ProgramError(f"{WIREGUARD_GO} does not answer: {self._daemon.last_words()}")
            time.sleep(0.01)  # its socket is the only sign; see UAPI in wireguard-go

    def _take_down(self, link: Link | None) -> None:
        """End the daemon; where it is not ours to find (no pid file), its interface ends it."""
        self._daemon.stop(STOP_SECONDS)
        if link is None:
            return
        delete_link(self._system, self.name)
        until = time.monotonic() + START_SECONDS
        while made_by(link) == USERSPACE and self._answers():
            if time.monotonic() > until:
                raise ProgramError(f"an old {WIREGUARD_GO} for {self.name} does not end")
            time.sleep(0.01)

    def _listens(self) -> bool:
        """Whether the daemon's socket takes calls.

        wg(8) must not ask before: it deletes a socket that is there and does not listen yet
        (userspace_interface in ipc-uapi-unix.h of wireguard-tools), and wireguard-go gives up.
        """
        path = f" {SOCKETS}/{self.name}.sock"
        sockets = self._system.run("cat", "/proc/net/unix").stdout.splitlines()
        return any(line.endswith(path) and line.split()[3] == LISTENING for line in sockets)

    def _answers(self) -> bool:
        try:
            read_device(self._system, self.name)
        except (ProgramError, DriverError):
            return False
        return True
