# SPDX-License-Identifier: Apache-2.0
"""The OpenVPN driver: OpenVPN 2.6, one hub, everybody else its client.

Between clients, packets pass through the hub's kernel (no client-to-client), so that the hub's
firewall sees them. The interface is a persistent TUN device: addresses and routes stay while the
daemon is replaced.
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oslo_log import log

from cnsmo.model.errors import DriverError, DriverUnavailable, ProgramError
from cnsmo.services.base import Observation, System, Unit
from cnsmo.services.kit.forwarding import Forwarding, entrances
from cnsmo.services.kit.link import (
    VPN,
    Link,
    WantedLink,
    converge_link,
    delete_link,
    foreign_routes,
    interface_name,
    link_steps,
    mark,
    read_link,
    read_links,
    require_ours,
    run_batch,
)
from cnsmo.services.kit.private_files import ensure_directory, remove_tree
from cnsmo.services.vpn.desired import VpnDesired
from cnsmo.services.vpn.driver import VpnDriver
from cnsmo.services.vpn.drivers import host_side
from cnsmo.services.vpn.drivers.certificate import CertificateFile, Certificates
from cnsmo.services.vpn.drivers.openvpn_config import Plan, make_plan
from cnsmo.services.vpn.drivers.openvpn_management import Management
from cnsmo.services.vpn.drivers.openvpn_members import MemberFiles
from cnsmo.services.vpn.drivers.openvpn_options import OpenvpnOptions
from cnsmo.services.vpn.drivers.openvpn_process import OPENVPN, Files, OpenvpnProcess
from cnsmo.services.vpn.drivers.openvpn_report import Answer, connected, detail, problems
from cnsmo.services.vpn.spec import Topology

LOG = log.getLogger(__name__)

OLDEST = (2, 6)
"""The first release with what is used here: fingerprints, TLS 1.3 throughout, disable-dco."""
AGAIN_SECONDS = 2.0
"""How soon to look again: at a connection on its way, or to announce that a certificate is gone."""
IPV6_SOCKETS = Path("/proc/net/if_inet6")


@dataclasses.dataclass(frozen=True)
class _Scene:
    """Everything that apply() and observe() look at, read once."""

    plan: Plan
    link: Link | None
    wanted_link: WantedLink
    blocked: dict[str, str]
    """Routes that somebody else has, and through which interface."""
    behind: dict[str, str | None]
    """Subnets that this host is a gateway for, and through which interface it reaches them."""


class OpenvpnDriver(VpnDriver):
    """One openvpn and one TUN device per unit."""

    name = "openvpn"
    topologies = (Topology.HUB,)
    announces = ("fingerprint",)
    Options = OpenvpnOptions

    def __init__(self, system: System, unit: str, label: str, state_dir: Path) -> None:
        super().__init__(system, unit, label, state_dir)
        self._device = interface_name(VPN, unit)
        self._certificates = CertificateFile(state_dir, label.split("/")[1])
        self._members = MemberFiles(state_dir)
        self._process = OpenvpnProcess(system, state_dir)
        self._forwarding = Forwarding(system, state_dir)
        self._checked = False
        self._promoted = False
        self._pending = False

    @classmethod
    def listens(cls, listen_port: int, options: Mapping[str, Any]) -> tuple[str, int] | None:
        chosen = OpenvpnOptions.model_validate(dict(options))
        return chosen.protocol.value, chosen.port or listen_port

    def check(self) -> None:
        if self._checked:  # asked for at every turn, and what was installed stays
            return
        for program, package in ((OPENVPN, "openvpn"), ("ip", "iproute2")):
            if not self.system.has(program):
                raise DriverUnavailable(f"{program} is missing: install the package {package}")
        said = self.system.run(OPENVPN, "--version", ok=(0, 1)).stdout
        found = re.match(r"OpenVPN (\d+)\.(\d+)", said)
        if found is None or (int(found[1]), int(found[2])) < OLDEST:
            raise DriverUnavailable(
                f"{found[0] if found else OPENVPN} is too old: install the package openvpn in "
                "version 2.6 or later"
            )
        if self.system.run("test", "-c", "/dev/net/tun", ok=(0, 1)).code != 0:
            raise DriverUnavailable(
                "openvpn needs /dev/net/tun, which is missing: load the module tun, or allow the "
                "container to use the device"
            )
        self._checked = True

    def announce(self, unit: Unit) -> dict[str, Any]:
        """The fingerprint, and that of the next certificate while it is not yet in use.

        The hub accepts both. A confirmed next certificate is put in use by apply(), and the old
        one is announced until then: a daemon never shows a certificate that nobody expects.

        :raises DriverError: when the certificates cannot be kept.
        """
        generation = int(unit.options.get("generation", 0))
        rotate_after = float(unit.options.get("rotate_after", 0))
        now = time.time()
        found = self._certificates.ensure(generation, now)
        advanced = found.advanced(generation, rotate_after, unit.confirmed, now)
        if advanced != found:
            self._certificates.save(advanced)
            LOG.info(
                "%s: the next certificate %s",
                self.label,
                "will be put in use" if advanced.promoting else "is ready",
            )
        self._promoted = False
        announced: dict[str, Any] = {
            "driver": self.name,
            "fingerprint": advanced.current.fingerprint,
        }
        if advanced.next is not None:
            announced["next_fingerprint"] = advanced.next.fingerprint
        self._pending = advanced.next is not None
        if advanced.current.generation:
            announced["generation"] = advanced.current.generation
        return announced

    def apply(self, desired: VpnDesired) -> list[str]:
        try:
            return self._apply(desired)
        except (ProgramError, OSError) as exc:
            raise DriverError(f"VPN {self.unit}: {exc}") from exc

    def observe(self, desired: VpnDesired) -> Observation:
        try:
            return self._observe(desired, self._look(desired))
        except (ProgramError, OSError) as exc:
            raise DriverError(f"VPN {self.unit}: {exc}") from exc

    def remove(self) -> None:
        try:
            self._forwarding.restore()
            self._process.stop()
            link = read_link(self.system, self._device)
            if link is not None and link.alias == mark(self.label):
                delete_link(self.system, self._device)
        except ProgramError as exc:
            raise DriverError(f"VPN {self.unit}: {exc}") from exc
        remove_tree(self.state_dir)

    def _look(self, desired: VpnDesired) -> _Scene:
        link, routes = read_links(self.system, self._device)
        blocked = foreign_routes(routes, self._device, desired.routes)
        return _Scene(
            plan=make_plan(desired, self._device, IPV6_SOCKETS.exists()),
            link=link,
            wanted_link=host_side.wanted_link(desired, blocked),
            blocked=blocked,
            behind=entrances(routes, self._device, desired.gateway_for),
        )

    def _apply(self, desired: VpnDesired) -> list[str]:
        scene = self._look(desired)
        if scene.link is not None:
            require_ours(scene.link, self.label)
        certificates = self._certificates.ensure(0, time.time())
        ensure_directory(self.state_dir)
        changes = self._members.converge(scene.plan)
        link = scene.link
        if link is None:
            link = self._make_device()
            changes.append(f"{self._device}: interface made")
        started = self._process.converge(_files(scene.plan, certificates))
        if certificates.promoting:
            self._certificates.save(certificates.promoted())
            self._promoted = True
            LOG.info("%s: the next certificate is in use", self.label)
        else:
            changes += started
        changes += converge_link(self.system, link, scene.wanted_link)
        changes += self._forwarding.apply(*host_side.passed_on(desired, self._device, scene.behind))
        return changes + self._expel(scene.plan)

    def _make_device(self) -> Link:
        """A daemon that is still there has lost its device, and would never notice."""
        self._process.stop()
        run_batch(
            self.system,
            [
                f"tuntap add dev {self._device} mode tun",
                f"link set dev {self._device} alias {mark(self.label)}",
            ],
        )
        link = read_link(self.system, self._device)
        if link is None:
            raise DriverError(f"VPN {self.unit}: {self._device} vanished again")
        return link

    def _expel(self, plan: Plan) -> list[str]:
        """End what would not come about any more, whenever it came about."""
        if not plan.serves:
            return []
        with Management(self.state_dir) as management:
            unwelcome = self._members.unwelcome(plan, management.sessions())
            management.expel(unwelcome.values())
        return [f"disconnected: {reason}" for reason in unwelcome]

    def _observe(self, desired: VpnDesired, scene: _Scene) -> Observation:
        if scene.link is None:
            return Observation(drift=(f"the interface {self._device} is missing",))
        require_ours(scene.link, self.label)
        certificates = self._certificates.load()
        drift = [step.found for step in link_steps(scene.link, scene.wanted_link)]
        drift += self._members.drift(scene.plan)
        drift += self._process.drift(_files(scene.plan, certificates) if certificates else None)
        drift += self._forwarding.drift(*host_side.passed_on(desired, self._device, scene.behind))
        answer = self._ask(scene.plan)
        if answer is not None:
            drift += self._members.unwelcome(scene.plan, answer.sessions)
        return Observation(
            drift=tuple(drift),
            problems=tuple(
                problems(desired, scene.plan, answer, self._process.last_words())
                + host_side.problems(scene.blocked, scene.behind)
            ),
            again=AGAIN_SECONDS if self._unsettled(scene.plan, answer) else None,
            detail=detail(desired, scene.plan, answer, self._device),
        )

    def _unsettled(self, plan: Plan, answer: Answer | None) -> bool:
        return self._promoted or self._pending or not connected(plan, answer)

    def _ask(self, plan: Plan) -> Answer | None:
        """What the daemon says of itself; None when it says nothing."""
        if not self._process.running:
            return None
        try:
            with Management(self.state_dir) as management:
                if plan.serves:
                    return Answer(management.state(), sessions=tuple(management.sessions()))
                return Answer(management.state(), traffic=management.traffic())
        except ProgramError as exc:
            LOG.warning("%s: %s", self.label, exc)
            return None


def _files(plan: Plan, certificates: Certificates) -> Files | None:
    if plan.config is None:
        return None
    return Files(plan.config, certificates.wanted.pem, serves=plan.serves)
