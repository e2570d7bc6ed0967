# SPDX-License-Identifier: Apache-2.0
"""A load balancer of the cloud's: Octavia's.

Its VIP is in the network of the hosts that ``on`` names, which have nothing else to do with it.
Octavia takes one change at a time; while it is at work, apply() returns and is called again.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from pydantic import BaseModel

from cnsmo.model.errors import DriverError, NotFound
from cnsmo.model.messages import Problem
from cnsmo.model.resource import View
from cnsmo.services import registry
from cnsmo.services.base import adjustments
from cnsmo.services.kit.openstack import told
from cnsmo.services.loadbalancer.compile import compile_balancer
from cnsmo.services.loadbalancer.drivers.oct_plan import CAN, STATES, Wanted, refused, wanted
from cnsmo.services.loadbalancer.features import Feature
from cnsmo.services.loadbalancer.spec import LoadBalancerSpec
from cnsmo.services.provider import Claim, Kept, ProviderDriver, without_server

PATIENCE, PULSE = 20.0, 0.5
"""Seconds for which a change is waited for, and between two looks; Octavia tells nobody."""
AGAIN = 3.0
"""Seconds after which to look again at what takes longer (a new balancer boots a VM)."""
POOL, MONITOR = "pool", "check"


class OctaviaDriver(ProviderDriver):
    """Keeps one balancer."""

    name = "octavia"
    can: ClassVar[frozenset[Feature]] = CAN

    @classmethod
    def refused(cls, path: str, spec: BaseModel) -> list[Problem]:
        assert isinstance(spec, LoadBalancerSpec)  # nosec B101
        return list(refused(path, spec))

    def apply(self, claim: Claim, view: View, spec: BaseModel) -> Kept:
        assert isinstance(spec, LoadBalancerSpec)  # nosec B101
        near = view.in_groups(spec.on)
        if not near:
            return Kept(problems=(f"nobody is in {', '.join(spec.on)}: in which network is it?",))
        service = registry.service(claim.service)
        said = adjustments(service, view, claim.instance)
        desired = compile_balancer(view, spec, min(near), {}, said)
        shall = wanted(desired)
        with told("Octavia"):
            work = _Work(self.cloud, claim)
            try:
                work.converge(shall, [host.instance_id for host in near.values()])
            except _AtWorkError:
                return Kept(tuple(work.changes), again=AGAIN, detail=work.detail(shall))
            detail = work.detail(shall)
        problems = [*desired.problems, *without_server({min(near): near[min(near)]})]
        states = detail["servers"]["default"]
        if down := sorted(name for name, one in states.items() if one["state"] == "down"):
            problems.append(f"Octavia's checks say that it is down: {', '.join(down)}")
        return Kept(tuple(work.changes), tuple(problems), detail=detail)

    def remove(self, claim: Claim) -> list[str]:
        with told("Octavia"):
            return _Work(self.cloud, claim).remove()


class _AtWorkError(Exception):
    """Octavia has not finished what it was asked for."""


@dataclasses.dataclass
class _Work:
    """One look at what there is, and what it takes to change it."""

    cloud: Any
    claim: Claim
    changes: list[str] = dataclasses.field(default_factory=list)
    balancer: Any = None

    @property
    def api(self) -> Any:
        """Octavia."""
        return self.cloud.load_balancer

    def converge(self, shall: Wanted, instances: list[str]) -> None:
        """Make it so, one change after the other."""
        self._balancer(shall, instances)
        self._settle()
        pool = self._pool(shall)
        self._listeners(shall, pool)
        self._monitor(shall, pool)
        self._members(shall, pool)

    def _mine(self) -> list[Any]:
        """The balancers of the claim; two, if two cores made one at the same time."""
        found = self.api.load_balancers(tags=self.claim.tag)
        return sorted(found, key=lambda one: (str(one.created_at), str(one.id)))

    def _balancer(self, shall: Wanted, instances: list[str]) -> None:
        found = self._mine()
        for surplus in found[1:]:
            self._delete(surplus)
        self.balancer = found[0] if found else None
        if self.balancer is not None and shall.vip not in ("", self.balancer.vip_address):
            self._delete(self.balancer)
            raise _AtWorkError
        if self.balancer is None:
            asked = {"vip_address": shall.vip} if shall.vip else {}
            self.balancer = self.api.create_load_balancer(
                name=self.claim.name(),
                description=f"{self.claim.tag} balancer",
                tags=[self.claim.tag, "cnsmo"],
                vip_subnet_id=self._subnet(instances),
                **asked,
            )
            self.changes.append("load balancer made")

    def _subnet(self, instances: list[str]) -> str:
        """That of the first VM's first port."""
        for instance in filter(None, instances):
            for port in self.cloud.network.ports(device_id=instance):
                for fixed in port.fixed_ips:
                    return str(fixed["subnet_id"])
        raise NotFound("the cloud shows no port of any host that 'on' names: in which network?")

    def _settle(self) -> None:
        """Wait until Octavia takes the next change."""
        end = time.monotonic() + PATIENCE
        while True:
            self.balancer = self.api.get_load_balancer(self.balancer.id)
            status = self.balancer.provisioning_status
            if status == "ACTIVE":
                return
            if status == "ERROR":
                raise DriverError(
                    f"the load balancer {self.balancer.name} is in ERROR: see Octavia's log; once "
                    "it is deleted ('openstack loadbalancer delete --cascade'), it is made anew"
                )
            if time.monotonic() > end:
                raise _AtWorkError
            time.sleep(PULSE)

    def _changed(self, told_: str, work: Callable[[], Any]) -> Any:
        made = work()
        self.changes.append(told_)
        self._settle()
        return made

    def _pool(self, shall: Wanted) -> Any:
        found = list(self.api.pools(load_balancer_id=self.balancer.id))
        keep = [pool for pool in found if pool.protocol == shall.pool["protocol"]][:1]
        if not keep:
            asked = {key: value for key, value in shall.pool.items() if value is not None}
            keep = [
                self._changed(
                    "pool made",
                    lambda: self.api.create_pool(
                        name=self.claim.name(POOL),
                        loadbalancer_id=self.balancer.id,
                        **asked,
                    ),
                )
            ]
        pool = keep[0]
        if differs := _differences(pool, shall.pool):
            self._changed(f"pool: {_keys(differs)}", lambda: self.api.update_pool(pool, **differs))
        return pool

    def _listeners(self, shall: Wanted, pool: Any) -> None:
        there = {one.protocol_port: one for one in self.api.listeners(**self._of_balancer())}
        for port, found in there.items():
            wanted_one = shall.listeners.get(port)
            if wanted_one is None or wanted_one["protocol"] != found.protocol:
                self._changed(
                    f"listener {port} removed",
                    functools.partial(self.api.delete_listener, found, ignore_missing=True),
                )
        for port, spec in shall.listeners.items():
            one = there.get(port)
            if one is None or one.protocol != spec["protocol"]:
                self._changed(f"listener {port} made", self._made_listener(port, spec, pool))
                continue
            differs = _differences(one, {**spec, "default_pool_id": pool.id})
            if differs:
                self._changed(
                    f"listener {port}: {_keys(differs)}",
                    functools.partial(self.api.update_listener, one, **differs),
                )
        for other in self.api.pools(**self._of_balancer()):
            if other.id != pool.id:
                self._changed(
                    "former pool removed",
                    functools.partial(self.api.delete_pool, other, ignore_missing=True),
                )

    def _of_balancer(self) -> dict[str, str]:
        return {"load_balancer_id": self.balancer.id}

    def _made_listener(self, port: int, spec: Mapping[str, Any], pool: Any) -> Callable[[], Any]:
        asked = {key: value for key, value in spec.items() if value not in (None, {})}
        return lambda: self.api.create_listener(
            name=self.claim.name(str(port)),
            load_balancer_id=self.balancer.id,
            protocol_port=port,
            default_pool_id=pool.id,
            **asked,
        )

    def _monitor(self, shall: Wanted, pool: Any) -> None:
        found = list(self.api.health_monitors(pool_id=pool.id))
        one = found[0] if found else None
        if one is not None and (shall.monitor is None or shall.monitor["type"] != one.type):
            self._changed("check removed", lambda: self.api.delete_health_monitor(one))
            one = None
        if shall.monitor is None:
            return
        if one is None:
            asked = {"name": self.claim.name(MONITOR), "pool_id": pool.id, **shall.monitor}
            make = functools.partial(self.api.create_health_monitor, **asked)
            self._changed("check made", make)
        elif differs := _differences(one, shall.monitor):
            differs.pop("type", None)
            self._changed(
                f"check: {_keys(differs)}", lambda: self.api.update_health_monitor(one, **differs)
            )

    def _members(self, shall: Wanted, pool: Any) -> None:
        """All at once: Octavia has a call for that."""
        there = {one.name: _shown(one) for one in self.api.members(pool)}
        if there == shall.members:
            return
        body = {"members": list(shall.members.values())}
        came = sorted(shall.members.keys() - there.keys())
        went = sorted(there.keys() - shall.members.keys())
        words = [f"+{name}" for name in came] + [f"-{name}" for name in went]
        self._changed(f"members: {' '.join(words) or 'changed'}", lambda: self._put(pool, body))

    def _put(self, pool: Any, body: Mapping[str, Any]) -> None:
        from openstack import exceptions

        answer = self.api.put(f"/lbaas/pools/{pool.id}/members", json=body)
        exceptions.raise_from_response(answer)

    def detail(self, shall: Wanted) -> dict[str, Any]:
        """For people, in the words of all drivers."""
        servers: dict[str, dict[str, Any]] = {}
        for pool in self.api.pools(**self._of_balancer()):
            for one in self.api.members(pool):
                servers[one.name] = {
                    "state": STATES.get(one.operating_status, "unchecked"),
                    "weight": one.weight,
                }
        return {
            "address": self.balancer.vip_address,
            "ports": sorted(shall.listeners),
            "provisioning": self.balancer.provisioning_status,
            "servers": {"default": servers},
        }

    def remove(self) -> list[str]:
        """All of it, with one call for each balancer."""
        for one in self._mine():
            self._delete(one)
        end = time.monotonic() + PATIENCE
        while self._mine():
            if time.monotonic() > end:
                raise DriverError("Octavia is still removing the load balancer")
            time.sleep(PULSE)
        return self.changes

    def _delete(self, balancer: Any) -> None:
        if balancer.provisioning_status.startswith("PENDING_DELETE"):
            return
        self.api.delete_load_balancer(balancer, cascade=True, ignore_missing=True)
        self.changes.append(f"load balancer {balancer.name} removed")


def _shown(member: Any) -> dict[str, Any]:
    return {
        "name": member.name,
        "address": member.address,
        "protocol_port": member.protocol_port,
        "weight": member.weight,
        "backup": bool(member.backup),
    }


def _differences(there: Any, wanted_: Mapping[str, Any]) -> dict[str, Any]:
    """What has to be changed of a thing of Octavia's."""
    return {
        key: value
        for key, value in wanted_.items()
        if key not in ("protocol",) and not _same(getattr(there, key), value)
    }


def _same(there: Any, value: Any) -> bool:
    """Octavia fills in what was not said."""
    if isinstance(there, dict) and isinstance(value, dict):
        told_ = {key: item for key, item in there.items() if item is not None}
        return told_ == value
    return bool(there == value) or (not there and not value)


def _keys(differs: Mapping[str, Any]) -> str:
    return ", ".join(sorted(differs)) + " changed"
