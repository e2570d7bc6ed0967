# SPDX-License-Identifier: Apache-2.0
"""VMs of an OpenStack, by openstacksdk: Nova's servers, each on a port that was made for it."""

from __future__ import annotations

import base64
import threading
import time
from typing import TYPE_CHECKING, Any

from oslo_config import cfg

from cnsmo.cloud.deployer import Deployer, Order, Server, Status
from cnsmo.model.errors import CnsmoError, NotFound, Unavailable
from cnsmo.services.kit.openstack import connect, told

if TYPE_CHECKING:
    from openstack.connection import Connection

DEPLOYMENT, GROUPS = "cnsmo_deployment", "cnsmo_group"
"""Keys of Nova's metadata by which a server is one of ours."""
PORT = "cnsmo_port"
"""The key by which it says which port was made for it: a server that could not be placed has let go
of its port."""
MARK = "made by CNSMO for deployment {}"
"""The description of a port that was made with its server."""
STATES = {
    "ACTIVE": Status.RUNNING,
    "ERROR": Status.FAILED,
    "DELETED": Status.FAILED,
    "SHUTOFF": Status.STOPPED,
    "PAUSED": Status.STOPPED,
    "SUSPENDED": Status.STOPPED,
    "SHELVED": Status.STOPPED,
    "SHELVED_OFFLOADED": Status.STOPPED,
}
PULSE, PATIENCE = 1.0, 300.0
"""Seconds between two looks whether a server is gone, and until it has to be."""


class OpenstackDeployer(Deployer):
    """The cloud is ``[cloud] name``, or what the variables OS_* say."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        super().__init__(conf)
        self._lock = threading.Lock()
        self._made: Connection | None = None

    @property
    def cloud(self) -> Connection:
        """The way to it."""
        with self._lock:
            if self._made is None:
                self._made = connect(self.conf.cloud.name, self.conf.cloud.timeout)
            return self._made

    def check(self, order: Order) -> None:
        """Image, flavor and network have to be there."""
        self._parts(order)

    def boot(self, order: Order) -> Server:
        """A port, then a server on it."""
        parts = self._parts(order)
        with told(f"port of {order.name}"):
            port = self.cloud.network.create_port(
                name=order.name,
                network_id=parts.pop("network").id,
                description=MARK.format(order.deployment),
                **parts.pop("groups"),
            )
        made = None
        try:
            with told(f"server {order.name}"):
                made = self.cloud.compute.create_server(
                    name=order.name,
                    image_id=parts["image"].id,
                    flavor_id=parts["flavor"].id,
                    networks=[{"port": port.id}],
                    user_data=base64.b64encode(order.user_data.encode()).decode(),
                    metadata={
                        DEPLOYMENT: order.deployment,
                        GROUPS: ",".join(order.groups),
                        PORT: port.id,
                    },
                    **({"key_name": order.key} if order.key else {}),
                    **({"has_config_drive": True} if order.config_drive else {}),
                )
                return self._server(self.cloud.compute.get_server(made.id), {})
        except BaseException as exc:
            try:
                with told(f"what was made for {order.name}"):
                    if made is not None:
                        self._end(made.id, order.name)
                    self.cloud.network.delete_port(port.id, ignore_missing=True)
            except CnsmoError as left:  # what went wrong first is told, too
                ids = f"port {port.id}" + (f", server {made.id}" if made is not None else "")
                raise Unavailable(f"{exc}; and it is left ({ids}): {left}") from exc
            raise

    def servers(self) -> list[Server]:
        """All of the project's."""
        with told("the list of servers"):
            floating = self._floating()
            found = [self._server(one, floating) for one in self.cloud.compute.servers()]
        return sorted(found, key=lambda server: (server.name, server.id))

    def refresh(self, server: Server) -> Server:
        """Ask Nova."""
        with told(f"server {server.name}"):
            found = self.cloud.compute.find_server(server.id)
        if found is None:
            raise NotFound(f"the VM {server.name} ({server.id}) is gone")
        return self._server(found, {})

    def mark(self, server: Server, deployment: str, groups: tuple[str, ...]) -> Server:
        """By Nova's metadata."""
        with told(f"metadata of {server.name}"):
            told_to_nova = {DEPLOYMENT: deployment, GROUPS: ",".join(groups)}
            self.cloud.compute.set_server_metadata(server.id, **told_to_nova)
            found = self.cloud.compute.get_server(server.id)
        return self._server(found, {})

    def remove(self, server: Server) -> None:
        """The server, and ports that were made for it; floating IPs are set free, not deleted."""
        with told(f"server {server.name}"):
            found = self.cloud.compute.find_server(server.id)
            named = (found.metadata or {}).get(PORT) if found is not None else None
            held = self.cloud.network.find_port(named) if named else None
            ports = [*self.cloud.network.ports(device_id=server.id), *([held] if held else [])]
            mark = MARK.format(server.deployment)
            mine = {one.id for one in ports if one.description == mark}
            self._end(server.id, server.name)
            for ident in sorted(mine):
                self.cloud.network.delete_port(ident, ignore_missing=True)

    def _end(self, ident: str, name: str) -> None:
        """Delete a server; returns when it is gone."""
        self.cloud.compute.delete_server(ident, ignore_missing=True)
        end = time.monotonic() + PATIENCE
        while self.cloud.compute.find_server(ident) is not None:
            if time.monotonic() > end:
                raise Unavailable(f"{name} is not gone after {PATIENCE:g} s")
            time.sleep(PULSE)

    def _parts(self, order: Order) -> dict[str, Any]:
        """What an order names, found."""
        with told(f"{order.name}: what it is made of"):
            groups = [
                _there("security group", word, self.cloud.network.find_security_group(word)).id
                for word in order.security_groups
            ]
            return {
                "image": _there("image", order.image, self.cloud.image.find_image(order.image)),
                "flavor": _there("flavor", order.flavor, self._flavor(order.flavor)),
                "network": _there(
                    "network", order.network, self.cloud.network.find_network(order.network)
                ),
                "groups": {"security_group_ids": groups} if groups else {},
            }

    def _flavor(self, word: str) -> Any:
        return self.cloud.compute.find_flavor(word, ignore_missing=True)

    def _floating(self) -> dict[str, str]:
        """Floating IPs by the fixed address that they lead to, with its port's server."""
        return {
            f"{one.port_details['device_id']}/{one.fixed_ip_address}": one.floating_ip_address
            for one in self.cloud.network.ips()
            if one.port_id and one.port_details
        }

    def _server(self, found: Any, floating: dict[str, str]) -> Server:
        told_by_nova = [one for many in (found.addresses or {}).values() for one in many]
        fixed = [one["addr"] for one in told_by_nova if one.get("OS-EXT-IPS:type") != "floating"]
        public = [
            one["addr"] for one in told_by_nova if one not in fixed and one["addr"] not in fixed
        ]
        public += [
            floating[f"{found.id}/{text}"] for text in fixed if f"{found.id}/{text}" in floating
        ]
        metadata = found.metadata or {}
        fault = found.fault or {}
        return Server(
            id=found.id,
            name=found.name,
            status=STATES.get(found.status, Status.BUILDING),
            deployment=str(metadata.get(DEPLOYMENT, "")),
            groups=tuple(filter(None, str(metadata.get(GROUPS, "")).split(","))),
            private=tuple(fixed),
            public=tuple(dict.fromkeys(public)),
            zone=str(found.availability_zone or ""),
            why=str(fault.get("message", "")),
        )


def _there(kind: str, word: str, found: Any) -> Any:
    if found is None:
        raise NotFound(f"the cloud has no {kind} {word!r}")
    return found
