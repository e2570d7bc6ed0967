# SPDX-License-Identifier: Apache-2.0
"""The plugin contracts: what a service is, and what a driver is.

A service turns rows into the desired state of one host, by pure functions; a driver makes a host
equal to it. Neither knows of the bus, the database or the agent's loop.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from pydantic import BaseModel
from pydantic_core import PydanticCustomError

from cnsmo.model.host import Host
from cnsmo.model.messages import Problem
from cnsmo.model.reading import read
from cnsmo.model.resource import AGENT, HOST, Row, View, adjustment_kind, joined, member_kind
from cnsmo.model.suggest import did_you_mean
from cnsmo.services.figure import Figure
from cnsmo.services.options import NoOptions


@dataclasses.dataclass(frozen=True)
class Completed:
    """What a program left behind when it ended well or was allowed to fail."""

    args: tuple[str, ...]
    code: int
    stdout: str
    stderr: str


class System(Protocol):
    """The one way to the outside world (``agent/system.py``): programs, in the right namespace.

    ``ways``: where the agent calls the core, as host or address and TCP port.
    """

    ways: tuple[tuple[str, int], ...]

    def run(
        self,
        *args: str,
        stdin: str | None = None,
        timeout: float = 10.0,
        ok: Sequence[int] = (0,),
    ) -> Completed:
        """Run a program to its end. timeout in seconds.

        :raises ProgramError: when its exit code is not in ok, it takes too long, or is missing.
        """

    def has(self, program: str) -> bool:
        """Whether the program can be found."""

    def start(self, *args: str, log: Path) -> int:
        """Start a daemon in the foreground, detached from the agent, output to log.

        :return: its process id as programs run by this system see it.
        """

    def alive(self, pid: int, program: str) -> bool:
        """Whether the process exists and runs that program (guards against reused ids)."""

    def stop(self, pid: int, program: str, timeout: float = 5.0) -> None:
        """End a daemon: SIGTERM, after timeout seconds SIGKILL; returns when it is gone."""


@dataclasses.dataclass(frozen=True)
class Unit:
    """A part of a service that one driver object keeps on one host.

    ``options``: what the driver must know before it can announce (the spec's driver_options and
    the like). ``confirmed``: all agents that are not down have applied what this host announced
    last; a driver that replaces a key may now let go of the old one.
    """

    name: str
    driver: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    confirmed: bool = False


@dataclasses.dataclass(frozen=True)
class Desired:
    """Base of the desired state of one unit on one host; subclasses add the substance.

    ``problems`` are what compile found that cannot work as declared (e.g. a peer that no path
    leads to): the agent is then ``degraded`` with these reasons, never silently ``ready``.
    """

    driver: str
    problems: tuple[str, ...] = dataclasses.field(default=(), kw_only=True)
    waiting: bool = dataclasses.field(default=False, kw_only=True)
    """The host has no place in the unit yet: what can be prepared without one."""


@dataclasses.dataclass(frozen=True)
class Segment:
    """A network that a service makes between hosts, as other services see it from one host.

    ``name``: as operators call it, after ``vpn:``. ``interface``: its name on this host; packets
    that come in there have the address of the member that sent them. ``members``: the addresses of
    each host in it. ``networks``: all addresses that members can have.
    """

    name: str
    interface: str
    members: Mapping[str, tuple[str, ...]]
    networks: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Listener:
    """A port at which the daemons of a service on different hosts talk to each other.

    ``why``: for operators. ``hosts``: those at the other end. ``protocol``: IANA's name; ``port``:
    0 where it has none. ``network``: the VPN in which they talk; "": on the underlay.
    """

    why: str
    protocol: str
    port: int = 0
    hosts: frozenset[str] = frozenset()
    network: str = ""


@dataclasses.dataclass(frozen=True)
class Observation:
    """What is really there. ``drift``: differences from what was last applied, one line each.

    ``problems``: what is in force but does not work. ``detail``: for the operator's eyes (JSON).
    """

    drift: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    again: float | None = None
    """Seconds after which apply() shall be called again, though nothing was declared: something is
    under way (a handshake) that may need a push."""
    detail: Mapping[str, Any] = dataclasses.field(default_factory=dict)


D = TypeVar("D", bound=Desired)


class Driver(abc.ABC, Generic[D]):
    """Keeps one unit on one host. Holds no state of its own that a restart would lose.

    ``state_dir`` is the unit's own directory, ``<agent's>/units/<service>/<unit>/<driver>``;
    whatever must survive a reboot or is secret lives there (0700, files 0600). The agent makes it
    before the first announce() and apply(), and deletes it after remove().
    """

    name: ClassVar[str]
    prepares: ClassVar[bool] = False
    """Whether apply() can do something useful with what is ``waiting``, before it is announced."""
    Options: ClassVar[type[BaseModel]] = NoOptions
    """Its driver_options; what does not fit is refused at plan."""

    def __init__(self, system: System, unit: str, label: str, state_dir: Path) -> None:
        """label: ``deployment/host/service/unit``, the mark of what is ours (alias, comment)."""
        self.system = system
        self.unit = unit
        self.label = label
        self.state_dir = state_dir

    @abc.abstractmethod
    def check(self) -> None:
        """Find out whether this host has what the driver needs.

        :raises DriverUnavailable: naming what is missing and the package that has it.
        """

    def announce(self, unit: Unit) -> dict[str, Any]:
        """Facts that others need (a public key, a fingerprint); makes keys on first use.

        Called often; must be cheap and must not change what is in force, except that it may let
        go of a replaced key when ``unit.confirmed``.
        """
        return {}

    @abc.abstractmethod
    def apply(self, desired: D) -> list[str]:
        """Converge; idempotent, minimal, atomic where the tool can be.

        :return: what was changed, one line each; empty when all was as desired.
        :raises DriverError: when it could not; the previous state still works then.
        """

    def enforce(self, desired: D) -> list[str]:
        """As apply(), but what nobody waits for may be left to follow_up()."""
        return self.apply(desired)

    def follow_up(self, desired: D) -> None:
        """Do what enforce() left to be done; some seconds may have passed.

        :raises DriverError: when it could not.
        """

    @abc.abstractmethod
    def observe(self, desired: D) -> Observation:
        """Read back what is there and compare it with desired; changes nothing."""

    def trial(self) -> float | None:
        """Seconds for which what apply() changed is on trial; None when nothing is.

        Unless confirm() is called before they are over, the driver goes back, even if the agent is
        dead by then: for changes that can cut the host off.
        """
        return None

    def confirm(self) -> bool:
        """The core was reached after the change, over a new connection: it stays.

        :return: whether it does; False: nothing is on trial (any more), the driver has gone back.
        """
        return False

    @abc.abstractmethod
    def remove(self) -> None:
        """Take away all that the driver made: nothing is left, no file either. Idempotent."""


@dataclasses.dataclass(frozen=True)
class Mentions:
    """Names in a spec: of hosts, of groups, and words that may be either."""

    hosts: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    words: frozenset[str] = frozenset()


class Refused(ValueError):
    """admit() will not take an announcement; the text goes to the host's operator."""


class NetworkService(abc.ABC):
    """A service: entry point group ``cnsmo.services``."""

    name: ClassVar[str]
    Spec: ClassVar[type[BaseModel]]
    """What the operator declares per instance; its JSON schema is the reference documentation."""
    Announcement: ClassVar[type[BaseModel] | None] = None
    """What a host may announce to an instance; validated before admit() sees it. None: nothing,
    then a host has its place as soon as the instance concerns it."""
    Detail: ClassVar[type[BaseModel] | None] = None
    """What its drivers tell of a unit that they saw; the core keeps nothing else, as operators'
    commands rely on it. None: whatever it is."""
    after: ClassVar[frozenset[str]] = frozenset()
    """Services that are brought in force before this one where a host runs both: it binds to, or
    names, what they make. At a removal it goes first."""

    Adjustment: ClassVar[type[BaseModel] | None] = None
    """What an operator may say of one host in an instance, beside the document. None: nothing."""

    @abc.abstractmethod
    def check(self, view: View) -> list[Problem]:
        """Mistakes that only show when all instances and hosts are seen together.

        Problem paths are relative to the document: ``vpn.backbone.cidr``.
        """

    @abc.abstractmethod
    def concerns(self, instance: str, spec: BaseModel, host: Host) -> bool:
        """Whether an instance has anything to do on a host."""

    def mentions(self, spec: BaseModel) -> Mentions:
        """Whom a spec names; pure. A newcomer that takes one of these names would be believed to be
        who was meant: the core lets it in with a token that is bound to the name, or not at all.
        """
        return Mentions()

    renews: ClassVar[bool] = False
    """Whether operators may ask members for new keys, which they replace one after the other."""

    def awaited(self, view: View, instance: str) -> str | None:
        """Whose turn it is to replace its key; None: nobody's. Pure.

        Who is passed over, as it does not: ``skipped`` in the row of the kind renewal_kind().
        """
        return None

    @abc.abstractmethod
    def units(self, view: View, host: str) -> list[Unit]:
        """The units of this host, whether it has announced itself to them or not; pure."""

    def admit(self, view: View, instance: str, host: str, announced: BaseModel) -> dict[str, Any]:
        """Core side: complete a host's announcement (allocate its address); pure over the view.

        The view holds the service's own kinds (with tombstones) and the hosts.

        :return: body of the host's member row.
        :raises Refused: when the host cannot be taken in, with the reason.
        """
        return announced.model_dump(mode="json")

    def admitted(self, view: View, instance: str, host: str) -> bool:
        """Whether the host's member row satisfies the instance's current spec; pure."""
        return view.get(member_kind(self.name), joined(instance, host)) is not None

    def networks(self, view: View) -> list[str]:
        """Names of the networks that this service makes, whoever is in them; pure."""
        return []

    def segments(self, view: View, host: str) -> list[Segment]:
        """Networks that this service makes on the host; pure. For other services."""
        return []

    def listens(self, view: View, host: str) -> list[Listener]:
        """Ports that this service needs open on the host, and at whom it calls them; pure."""
        return []

    def effects(self, before: View, after: View, host: str) -> list[str]:
        """What a plan comes to on a host, one line each, for its operator; pure.

        Asked of every service, over the hosts that a changed instance of any service concerns.
        """
        return []

    def figures(self, detail: Mapping[str, Any]) -> Iterable[Figure]:
        """What a driver observed of a unit (its ``detail``), for Prometheus; pure.

        A service that has this is looked at for each scrape, by its drivers' observe() alone.
        """
        return ()

    def moved_by(self, row: Row, before: Row | None) -> bool:
        """Whether hosts shall hear of a changed row at once, because this service computes
        something from it that they need; pure. What is not urgent may wait half a second for
        company. Core side; of rows that are not its own it is heard where it is declared.

        before: the live row that it replaces.
        """
        if row.kind == AGENT:
            return row.gone != (before is not None and before.gone)
        kind, _dot, what = row.kind.partition(".")
        return row.kind == HOST or (kind == self.name and what != "provider")

    @abc.abstractmethod
    def compile(self, view: View, host: str) -> Mapping[str, Desired]:
        """Desired state of this host, by unit; pure and deterministic.

        A unit that is missing here shall not exist on the host.
        """


def mistake(key: str, message: str, remedy: str = "") -> PydanticCustomError:
    """What the validator of a whole spec raises: which of its keys is wrong, and why."""
    context = {"key": key, "message": message, "remedy": remedy}
    return PydanticCustomError("mistake", "{message}", context)


def specs(service: NetworkService, view: View) -> dict[str, Any]:
    """All instances of a service in a view, parsed once, by name."""
    return view.once(
        (service.name, "specs"),
        lambda: {row.name: read(service.Spec, row.body) for row in view.rows(service.name)},
    )


def adjustments(service: NetworkService, view: View, instance: str) -> dict[str, Any]:
    """What operators said of hosts in an instance, parsed, by host."""
    if service.Adjustment is None:
        return {}
    prefix = joined(instance, "")
    return {
        row.name[len(prefix) :]: read(service.Adjustment, row.body)
        for row in view.rows(adjustment_kind(service.name))
        if row.name.startswith(prefix)
    }


def unknown_groups(view: View, path: str, groups: Iterable[str]) -> list[Problem]:
    """One problem for each group that neither a host holds nor a token grants."""
    known = view.groups
    return [
        Problem(
            path=path,
            message=f"no host is in the group {group!r} and no token grants it",
            remedy=did_you_mean(group, known),
            absent=True,
        )
        for group in groups
        if group not in known
    ]
