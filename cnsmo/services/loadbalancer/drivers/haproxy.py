# SPDX-License-Identifier: Apache-2.0
"""The HAProxy driver: HAProxy 2.6 or later, a master with its workers for each unit.

Servers come, go and change by the runtime API; any other change is a reload, in which the next
worker takes the listening sockets over. What runs is always what is on the disk.
"""

from __future__ import annotations

import datetime
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from oslo_log import log

from cnsmo.model.errors import DriverError, DriverUnavailable, ProgramError
from cnsmo.services.base import Observation, System
from cnsmo.services.kit.private_files import read_private, remove_tree, write_private
from cnsmo.services.loadbalancer.desired import LoadBalancerDesired, Persistence
from cnsmo.services.loadbalancer.driver import LoadBalancerDriver
from cnsmo.services.loadbalancer.drivers import hap_report
from cnsmo.services.loadbalancer.drivers.falls import Falls
from cnsmo.services.loadbalancer.drivers.hap_account import account
from cnsmo.services.loadbalancer.drivers.hap_certificates import Certificates, CertificateStore
from cnsmo.services.loadbalancer.drivers.hap_front import sockets_of
from cnsmo.services.loadbalancer.drivers.hap_host import Host
from cnsmo.services.loadbalancer.drivers.hap_instance import HapInstance, Wanted
from cnsmo.services.loadbalancer.drivers.hap_process import HAPROXY
from cnsmo.services.loadbalancer.drivers.hap_render import render
from cnsmo.services.loadbalancer.drivers.vrrp import Vrrp
from cnsmo.services.loadbalancer.features import Feature

LOG = log.getLogger(__name__)
OLDEST = (2, 6)
"""The first release whose servers can be added and deleted without being experimental."""
AGAIN_SECONDS = 1.0
"""How soon to look again at servers that leave, or that have not been checked yet."""
LOOK_SECONDS = 10.0
"""How soon to look again where nothing is under way: haproxy may have died, a file been renewed."""
IPV6_SOCKETS = Path("/proc/net/if_inet6")


class HaproxyDriver(LoadBalancerDriver):
    """One haproxy per unit, and one keepalived where there is a VIP."""

    name = "haproxy"
    can = frozenset(Feature) - {Feature.UDP}

    def __init__(self, system: System, unit: str, label: str, state_dir: Path) -> None:
        super().__init__(system, unit, label, state_dir)
        self._falls = Falls()
        self._instance = HapInstance(system, state_dir, label, ordered=self._falls.excuse)
        self._store = CertificateStore(system, state_dir)
        self._vrrp = Vrrp(system, state_dir)
        self._account: tuple[str, str] | None = None
        self._checked = False

    def check(self) -> None:
        if self._checked:  # asked for at every turn, and what was installed stays
            return
        for program, package in ((HAPROXY, "haproxy"), ("ss", "iproute2"), ("pgrep", "procps")):
            if not self.system.has(program):
                raise DriverUnavailable(f"{program} is missing: install the package {package}")
        said = self.system.run(HAPROXY, "-v").stdout
        found = re.match(r"HA-?Proxy version (\d+)\.(\d+)", said)
        if found is None or (int(found[1]), int(found[2])) < OLDEST:
            raise DriverUnavailable(
                f"{found[0] if found else HAPROXY} is too old: install the package haproxy in "
                "version 2.6 or later"
            )
        self._account = account(self.system)
        self._checked = True

    def apply(self, desired: LoadBalancerDesired) -> list[str]:
        with self._speaking():
            calmed = self._falls.decide(desired)
            certificates = self._store.find(desired.tls)
            try:
                changes = self._converge(desired, certificates)
            except DriverError as exc:
                if not self._store.refused(certificates, str(exc)):
                    raise
                changes = self._converge(desired, self._store.find(desired.tls))
            if calmed:  # nothing that was found amiss was repaired
                LOG.info("%s: %s", self.label, "; ".join(changes))
                changes = []
            user, _group = self._user()
            return changes + self._vrrp.converge(desired.vip, watches=bool(user))

    def observe(self, desired: LoadBalancerDesired) -> Observation:
        with self._speaking():
            certificates = self._store.find(desired.tls)
            host = self._host(desired, certificates, make=False)
            config = render(self._falls.calmed(desired), host)
            vrrp = self._vrrp.observe(desired.vip, watches=bool(host.user))
            told = [*certificates.told(datetime.datetime.now(datetime.UTC)), *vrrp.problems]
            detail = {"certificates": certificates.detail, "vip": vrrp.holds}
            scene = self._instance.look()
            if scene is None:
                drift = (self._instance.absence, *vrrp.drift)
                nothing = {"servers": {}, "frontends": {}, **detail}
                problems = tuple(told)
                return Observation(drift, problems, again=LOOK_SECONDS, detail=nothing)
            drift = (*self._instance.drift(config, scene), *vrrp.drift)
            if not self._store.intact(certificates):
                drift = (*drift, "copies of certificates were changed")
            report = self._instance.report(scene)
            self._falls.count(hap_report.falls(config, report))
            told += self._falls.told(desired)
            waits = report.leavers or vrrp.again or hap_report.unsettled(config, report)
            return Observation(
                drift=drift,
                problems=(*hap_report.problems(desired, config, report), *told),
                again=AGAIN_SECONDS if waits or self._falls.due else LOOK_SECONDS,
                detail={**hap_report.detail(desired, config, report), **detail},
            )

    def remove(self) -> None:
        with self._speaking():
            self._vrrp.stop()
            self._instance.stop()
        remove_tree(self.state_dir)

    def _converge(self, desired: LoadBalancerDesired, certificates: Certificates) -> list[str]:
        host = self._host(desired, certificates, make=True)
        config = render(self._falls.calmed(desired), host)
        self._store.put(certificates)
        sockets = sockets_of(desired, host)
        wanted = Wanted(config, sockets, desired.drain, desired.distrusted)
        changes = self._instance.converge(wanted)
        self._store.clean(certificates)
        return changes

    def _user(self) -> tuple[str, str]:
        """Account and group of the workers."""
        if self._account is None:
            self._account = account(self.system)
        return self._account

    def _host(self, desired: LoadBalancerDesired, found: Certificates, make: bool) -> Host:
        """make: whether a secret that is missing may be made."""
        user, group = self._user()
        cookies = any(pool.persistence == Persistence.COOKIE for pool in desired.pools)
        secret = self._secret(make) if cookies else ""
        ipv6, processors = IPV6_SOCKETS.exists(), tuple(sorted(os.sched_getaffinity(0)))
        return Host(self.label, user, group, ipv6, secret, found.material, processors)

    def _secret(self, make: bool) -> str:
        """What cookies are made from; without it they would tell the servers' addresses."""
        path = self.state_dir / "cookie.key"
        secret = (read_private(path) or "").strip()
        if not re.fullmatch("[0-9a-f]{64}", secret):
            secret = secrets.token_hex(32)
            if make:
                write_private(path, f"{secret}\n")
        return secret

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        """What programs say is this unit's error."""
        try:
            yield
        except (ProgramError, OSError) as exc:
            raise DriverError(f"load balancer {self.unit}: {exc}") from exc
