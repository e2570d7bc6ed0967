# SPDX-License-Identifier: Apache-2.0
"""The contract of a deployer: what makes VMs, finds them again, and takes them away."""

from __future__ import annotations

import abc
import dataclasses
import enum
import re
from collections.abc import Iterable

from oslo_config import cfg

from cnsmo.model.errors import Conflict, NotFound


class Status(enum.StrEnum):
    """Where a VM stands, as its cloud sees it."""

    BUILDING = "building"
    RUNNING = "running"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclasses.dataclass(frozen=True)
class Order:
    """A VM that shall be.

    ``name``: of the VM and of its host. ``groups``: for people who look into the cloud; what a host
    may do, its token says. ``network``, ``flavor``, ``image``, ``key``, ``security_groups``: names
    or ids of the cloud's; empty: its own default.
    """

    name: str
    deployment: str
    groups: tuple[str, ...]
    user_data: str
    flavor: str = ""
    image: str = ""
    network: str = ""
    key: str = ""
    security_groups: tuple[str, ...] = ()
    config_drive: bool = False


@dataclasses.dataclass(frozen=True)
class Server:
    """A VM that there is.

    ``deployment``: whose it is; "": not one of ours. ``private``: its fixed addresses; ``public``:
    the floating ones, of which it knows nothing itself. ``why``: of one that failed.
    """

    id: str
    name: str
    status: Status
    deployment: str = ""
    groups: tuple[str, ...] = ()
    private: tuple[str, ...] = ()
    public: tuple[str, ...] = ()
    zone: str = ""
    why: str = ""


class Deployer(abc.ABC):
    """Entry point group ``cnsmo.deployers``. Its methods are called by several threads at once."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self.conf = conf

    @abc.abstractmethod
    def check(self, order: Order) -> None:
        """Find out whether the cloud has what an order names; nothing is made.

        :raises NotFound: naming what it has not.
        """

    @abc.abstractmethod
    def boot(self, order: Order) -> Server:
        """Ask for a VM; it need not run yet.

        :raises CnsmoError: when the cloud does not make it; nothing of it is left then.
        """

    @abc.abstractmethod
    def servers(self) -> list[Server]:
        """All VMs that are seen, ours and others', by name."""

    @abc.abstractmethod
    def refresh(self, server: Server) -> Server:
        """The VM as it is now.

        :raises NotFound: when it is gone.
        """

    @abc.abstractmethod
    def mark(self, server: Server, deployment: str, groups: tuple[str, ...]) -> Server:
        """Make a VM one of a deployment's."""

    @abc.abstractmethod
    def remove(self, server: Server) -> None:
        """Take a VM away, with all that was made for it; returns when it is gone."""

    def owned(self, deployment: str) -> list[Server]:
        """The VMs of a deployment."""
        return [server for server in self.servers() if server.deployment == deployment]


def named(servers: Iterable[Server], word: str) -> Server:
    """The one that has this name, or this id.

    :raises NotFound: when there is none.
    :raises Conflict: when several bear the name.
    """
    found = [server for server in servers if word in (server.id, server.name)]
    if len(found) > 1:
        ids = ", ".join(server.id for server in found)
        raise Conflict(f"{len(found)} VMs are called {word!r}: say which by its id: {ids}")
    if not found:
        raise NotFound(f"the cloud shows no VM {word!r}: 'cnsmo-manage cloud list --all' lists all")
    return found[0]


def zone_label(zone: str) -> str:
    """A zone as a site may be called; "" when it cannot."""
    text = zone.lower().replace("_", "-")
    return text if re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", text) else ""
