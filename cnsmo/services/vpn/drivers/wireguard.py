# SPDX-License-Identifier: Apache-2.0
"""The WireGuard driver: the kernel's WireGuard where it is there, wireguard-go where it is not.

Driver option ``implementation``: auto (the default), kernel or userspace.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

from oslo_log import log

from cnsmo.model.errors import DriverError, DriverUnavailable, ProgramError
from cnsmo.services.base import Observation, System, Unit
from cnsmo.services.kit.forwarding import Forwarding, entrances
from cnsmo.services.kit.link import (
    Link,
    WantedLink,
    converge_link,
    foreign_routes,
    link_steps,
    port_in_use,
    read_link,
    read_links,
)
from cnsmo.services.kit.private_files import remove_tree
from cnsmo.services.options import read_options
from cnsmo.services.vpn.desired import VpnDesired
from cnsmo.services.vpn.driver import VpnDriver
from cnsmo.services.vpn.drivers import host_side
from cnsmo.services.vpn.drivers.keys import Key, KeyPair, KeyRing
from cnsmo.services.vpn.drivers.wg_interface import (
    WgInterface,
    WireguardOptions,
    made_by,
)
from cnsmo.services.vpn.drivers.wg_memory import Memory, load_memory, save_memory
from cnsmo.services.vpn.drivers.wg_plan import (
    WantedPeer,
    kick,
    peer_steps,
    remember,
    wanted_peers,
)
from cnsmo.services.vpn.drivers.wg_push import Pushes
from cnsmo.services.vpn.drivers.wg_report import detail, problems
from cnsmo.services.vpn.drivers.wg_tools import WgDevice, set_device
from cnsmo.services.vpn.drivers.wg_usable import usable

LOG = log.getLogger(__name__)
NEXT_KEY_SECONDS = 1.0
"""How soon to look again whether all others know the next key."""


@dataclasses.dataclass(frozen=True)
class _Scene:
    """Everything that apply() and observe() look at, read once."""

    link: Link | None
    device: WgDevice | None
    wanted_link: WantedLink
    blocked: dict[str, str]
    """Routes that somebody else has, and through which interface."""
    behind: dict[str, str | None]
    """Subnets that this host is a gateway for, and through which interface it reaches them."""
    memory: Memory
    now: float


class WireguardDriver(VpnDriver):
    """One WireGuard interface per unit."""

    name = "wireguard"
    announces = ("public_key",)
    prepares = True
    Options = WireguardOptions

    def __init__(self, system: System, unit: str, label: str, state_dir: Path) -> None:
        super().__init__(system, unit, label, state_dir)
        self._keys = KeyRing(state_dir)
        self._interface = WgInterface(system, unit, label, state_dir)
        self._forwarding = Forwarding(system, state_dir)
        self._pushes = Pushes()

    def check(self) -> None:
        for program, package in (("wg", "wireguard-tools"), ("ip", "iproute2")):
            if not self.system.has(program):
                raise DriverUnavailable(f"{program} is missing: install the package {package}")
        self._interface.check()

    def announce(self, unit: Unit) -> dict[str, Any]:
        """The public key, and the next one while it waits for everybody to know it.

        A confirmed next key is put in force here, before it is announced as the key: the order
        matters, see wg_plan. Whoever calls this sends the answer at once.

        :raises DriverError: when the keys cannot be kept.
        """
        generation = int(unit.options.get("generation", 0))
        rotate_after = float(unit.options.get("rotate_after", 0))
        now = time.time()
        pair = self._keys.ensure(generation, now)
        following = pair.next
        if following is not None and following.generation >= generation:
            if unit.confirmed:
                pair = self._promote(pair.current, following)
        elif pair.current.due(generation, rotate_after, now):
            newest = max(generation, pair.current.generation)
            pair = self._keys.save(KeyPair(current=pair.current, next=Key.new(newest, now)))
            LOG.info("%s: the next key is ready", self.label)
        announced: dict[str, Any] = {"driver": self.name, "public_key": pair.current.public}
        if pair.next is not None:
            announced["next_public_key"] = pair.next.public
        if pair.current.generation:
            announced["generation"] = pair.current.generation
        return announced

    def apply(self, desired: VpnDesired) -> list[str]:
        try:
            return self._apply(desired)
        except ProgramError as exc:
            raise DriverError(f"VPN {self.unit}: {exc}") from exc

    def observe(self, desired: VpnDesired) -> Observation:
        try:
            scene = self._look(desired)
            return self._observe(desired, scene)
        except ProgramError as exc:
            raise DriverError(f"VPN {self.unit}: {exc}") from exc

    def remove(self) -> None:
        try:
            self._forwarding.restore()
            self._interface.remove()
        except ProgramError as exc:
            raise DriverError(f"VPN {self.unit}: {exc}") from exc
        remove_tree(self.state_dir)

    def _promote(self, current: Key, following: Key) -> KeyPair:
        link = read_link(self.system, self._interface.name)
        running = self._interface.read_device(link) is not None
        try:
            if running:
                set_device(self.system, self._interface.name, (), (), following.private)
            pair = self._keys.save(KeyPair(current=following))
        except (DriverError, ProgramError) as exc:
            if running:
                set_device(self.system, self._interface.name, (), (), current.private)
            raise DriverError(f"VPN {self.unit}: the key cannot be replaced: {exc}") from exc
        LOG.info("%s: the next key is in force", self.label)
        return pair

    def _look(self, desired: VpnDesired) -> _Scene:
        name = self._interface.name
        link, routes = read_links(self.system, name)
        blocked = foreign_routes(routes, name, desired.routes)
        return _Scene(
            link=link,
            device=self._interface.read_device(link),
            wanted_link=host_side.wanted_link(desired, blocked),
            blocked=blocked,
            behind=entrances(routes, name, desired.gateway_for),
            memory=load_memory(self.state_dir),
            now=time.time(),
        )

    def _apply(self, desired: VpnDesired) -> list[str]:
        kind = read_options(WireguardOptions, self.name, desired.options).implementation
        scene = self._look(desired)
        self._interface.require_ours(scene.link)
        pair = self._keys.ensure(0, scene.now)
        desired, _left_out = usable(desired, _public(pair))
        _wanted_peers(desired, scene)  # refused before anything is touched
        changes = self._interface.ensure(kind, scene.link, scene.device)
        if changes:
            scene = self._look(desired)
        link, device = scene.link, scene.device
        if link is None or device is None:
            raise DriverError(f"VPN {self.unit}: {self._interface.name} vanished again")
        wanted = _wanted_peers(desired, scene)
        changes += self._set_device(desired, device, pair.current)
        if link.up:
            changes += self._set_peers(scene, device, wanted, desired.waiting, called=True)
            changes += converge_link(self.system, link, scene.wanted_link)
        else:  # peers are called when they are set: for that it has to be up
            changes += converge_link(self.system, link, scene.wanted_link)
            changes += self._set_peers(scene, device, wanted, desired.waiting, called=False)
        changes += self._forwarding.apply(*self._passed_on(desired, scene))
        kept = remember(desired, wanted, device, scene.memory.peers, scene.now)
        save_memory(self.state_dir, Memory(peers=kept))
        return changes

    def _observe(self, desired: VpnDesired, scene: _Scene) -> Observation:
        name = self._interface.name
        if scene.link is None:
            return Observation(drift=(f"the interface {name} is missing",))
        self._interface.require_ours(scene.link)
        if scene.device is None:
            return Observation(drift=(f"the device {name} does not answer",))
        pair = self._keys.load()
        desired, left_out = usable(desired, _public(pair))
        drift = [step.found for step in link_steps(scene.link, scene.wanted_link)]
        wanted = _wanted_peers(desired, scene)
        drift += _device_drift(desired, scene.device, pair)
        drift += [
            step.found for step in peer_steps(wanted, scene.device, scene.memory.peers, scene.now)
        ]
        drift += self._forwarding.drift(*self._passed_on(desired, scene))
        used = made_by(scene.link)
        return Observation(
            drift=tuple(drift),
            problems=(
                *left_out,
                *problems(desired, scene.device, scene.blocked, scene.behind, scene.now),
            ),
            again=self._again(pair),
            detail=detail(desired, wanted, scene.device, name, used, scene.now),
        )

    def _again(self, pair: KeyPair | None) -> float | None:
        """A next key waits for all others to know it: that may be any moment."""
        waiting = pair is not None and pair.next is not None
        pushed = self._pushes.again(time.monotonic())
        return min(pushed or NEXT_KEY_SECONDS, NEXT_KEY_SECONDS) if waiting else pushed

    def _set_device(self, desired: VpnDesired, device: WgDevice, key: Key) -> list[str]:
        """Set what differs on the device; a port that is taken is found out before all else."""
        name = self._interface.name
        changes = []
        if device.listen_port != desired.listen_port:
            self._move_port(device.listen_port, desired.listen_port)
            changes.append(f"{name}: UDP port {desired.listen_port}")
        settings: list[str] = []
        if device.fwmark:
            settings += ["fwmark", "0"]
            changes.append(f"{name}: no fwmark")
        fresh_key = key.private if device.private_key != key.private else None
        if fresh_key:
            changes.append(f"{name}: own key set")
        if settings or fresh_key:
            set_device(self.system, name, settings, (), fresh_key)
        return changes

    def _set_peers(
        self,
        scene: _Scene,
        device: WgDevice,
        wanted: dict[str, WantedPeer],
        waiting: bool,
        called: bool,
    ) -> list[str]:
        """Set what differs; called: whether the peers that stay have sessions with us."""
        steps = peer_steps(wanted, device, scene.memory.peers, scene.now)
        args = [step.args for step in steps]
        if not called:
            known = [peer for key, peer in wanted.items() if key in device.peers]
            args += [("peer", peer.public_key, *kick(peer)) for peer in known]
        if not waiting:  # before that nobody knows this host
            args += self._pushes.due(wanted, device, time.monotonic())
        set_device(self.system, self._interface.name, (), args)
        return [step.repaired for step in steps]

    def _passed_on(self, desired: VpnDesired, scene: _Scene) -> tuple[list[str], set[int]]:
        return host_side.passed_on(desired, self._interface.name, scene.behind)

    def _move_port(self, old: int, new: int) -> None:
        """Listen on another port, or stay on the old one.

        wireguard-go lets go of the old port before it asks for the new one, so it is asked only
        where the new one is free, and put back where somebody else was quicker.
        """
        name = self._interface.name
        if port_in_use(self.system, new):
            raise self._port_is_taken(new, "in use already")
        try:
            set_device(self.system, name, ("listen-port", str(int(new))), ())
        except ProgramError as exc:
            set_device(self.system, name, ("listen-port", str(old)), ())
            raise self._port_is_taken(new, str(exc)) from exc

    def _port_is_taken(self, port: int, why: str) -> DriverError:
        return DriverError(
            f"VPN {self.unit}: UDP port {port} cannot be used ({why}): end what uses it on this "
            "host ('ss -lunp'), or declare another listen_port"
        )


def _wanted_peers(desired: VpnDesired, scene: _Scene) -> dict[str, WantedPeer]:
    return wanted_peers(desired, scene.device, scene.memory.peers, scene.now)


def _public(pair: KeyPair | None) -> list[str]:
    """This host's public keys."""
    return [key.public for key in (pair.current, pair.next) if key] if pair else []


def _device_drift(desired: VpnDesired, device: WgDevice, pair: KeyPair | None) -> list[str]:
    found = []
    if device.listen_port != desired.listen_port:
        found.append(f"UDP port {device.listen_port} is used instead of {desired.listen_port}")
    if device.fwmark:
        found.append("a fwmark is set")
    if pair is None or device.private_key != pair.current.private:
        found.append("the private key is not this host's")
    return found
