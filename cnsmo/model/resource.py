# SPDX-License-Identifier: Apache-2.0
"""Rows of the System State, and the read-only view over them that everything is computed from."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ConfigDict

from cnsmo.model.host import Host
from cnsmo.model.lifecycle import GONE
from cnsmo.model.names import ALL
from cnsmo.model.reading import read

T = TypeVar("T")
HOST = "host"
MOST_THROWN_OUT = 100
"""So many hosts that were thrown out are remembered."""
"""Kind of the rows that the core writes about hosts; their name is the host's."""
QUARANTINED = "quarantined"
"""Key in their bodies: an operator has taken the host out of everything."""
BOUNDS, DISPUTED = "bounds", "disputed"
"""The same: in which networks it can be, and what it said and is not believed; see Host."""
AGENT = "agent"
"""Kind of the rows that hold an agent's state; their name is ``host/service``."""
OPERATOR = "operator"
"""Owner of everything that was declared."""
CORE = "core"
"""Owner of what the core itself keeps."""


def member_kind(service: str) -> str:
    """Kind of the rows with which hosts announce themselves to an instance of a service."""
    return f"{service}.member"


def adjustment_kind(service: str) -> str:
    """Kind of the rows by which operators say something of one host in an instance."""
    return f"{service}.adjustment"


def renewal_kind(service: str) -> str:
    """Kind of the rows by which operators ask an instance's members for new keys."""
    return f"{service}.renewal"


def joined(*parts: str) -> str:
    """Name of a row that belongs to several things, as ``backbone/web1``."""
    return "/".join(parts)


class Row(BaseModel):
    """One row: the latest version of a thing, with the revision that wrote it.

    ``owner`` may write it (``operator``, ``core`` or a host's id); ``author`` did, last.
    """

    model_config = ConfigDict(frozen=True)

    kind: str
    name: str
    owner: str
    author: str = ""
    revision: int
    deleted: bool = False
    body: dict[str, Any]
    updated_at: datetime.datetime

    @functools.cached_property
    def host(self) -> Host:
        """The host that a row of the kind HOST is about; parsed once, whatever views it is in."""
        return read(Host, {**self.body, "name": self.name})

    @functools.cached_property
    def gone(self) -> bool:
        """Whether a row of the kind AGENT says that nobody should wait for the agent."""
        return not self.deleted and self.body["state"] in GONE


class Changes(BaseModel):
    """The answer to "what changed since R": the latest version of each row, and tombstones.

    ``snapshot`` says that the rows are all there is and replace what the reader had.
    ``observe_at``: an operator wants observations that are newer; None: nobody does, or an older
    core does not say so.
    """

    deployment: str
    head: int
    snapshot: bool
    rows: list[Row]
    observe_at: datetime.datetime | None = None


class View:
    """A consistent picture of (a part of) a deployment at one revision; never changes."""

    def __init__(
        self,
        deployment: str,
        revision: int,
        rows: Iterable[Row],
        now: datetime.datetime | None = None,
        granted: Iterable[str] = (),
    ) -> None:
        """now and granted (groups that tokens can grant) are known to the core only."""
        self.deployment = deployment
        self.revision = revision
        self.now = now
        self._live: dict[str, dict[str, Row]] = {}
        self._dead: dict[str, dict[str, Row]] = {}
        rows = list(rows)
        for row in rows:
            (self._dead if row.deleted else self._live).setdefault(row.kind, {})[row.name] = row
        self._thrown_out = _thrown_out({}, (row for row in rows if row.kind == HOST))
        self._granted = frozenset(granted)
        self._everybody: dict[str, Host] | None = None
        self._hosts: dict[str, Host] | None = None
        self._gone: frozenset[str] | None = None
        self._made: dict[Hashable, Any] = {}

    def after(self, revision: int, rows: Collection[Row]) -> View:
        """A later one, in which these rows changed; of those that were deleted nothing is kept,
        but of hosts that were thrown out.

        It takes as long as there are rows of the kinds that changed; who the hosts are, and which
        are gone, is found anew for those alone that changed.
        """
        later = View(self.deployment, revision, (), self.now, self._granted)
        later._live, later._dead = dict(self._live), dict(self._dead)
        changed: dict[str, dict[str, Row]] = {}
        for row in rows:
            if row.kind not in changed:
                changed[row.kind] = dict(self._live.get(row.kind, {}))
            if row.deleted:
                changed[row.kind].pop(row.name, None)
            else:
                changed[row.kind][row.name] = row
        later._live |= changed
        hosts = [row for row in rows if row.kind == HOST]
        later._thrown_out = _thrown_out(self._thrown_out, hosts)
        if self._everybody is not None:
            later._everybody = _hosts_after(self._everybody, hosts)
        if self._hosts is self._everybody and not any(row.host.quarantined for row in hosts):
            later._hosts = later._everybody
        elif self._hosts is not None:
            later._hosts = _hosts_after(self._hosts, hosts, apart=True)
        if self._gone is not None:
            later._gone = _gone_after(self._gone, [row for row in rows if row.kind == AGENT])
        return later

    def __iter__(self) -> Iterator[Row]:
        """All live rows, by kind and name."""
        return (row for kind in sorted(self._live) for row in self.rows(kind))

    def get(self, kind: str, name: str) -> Row | None:
        """The live row of that kind and name, if there is one."""
        return self._live.get(kind, {}).get(name)

    def rows(self, kind: str) -> Iterator[Row]:
        """Live rows of a kind, by name."""
        rows = self._live.get(kind, {})
        return (rows[name] for name in sorted(rows))

    def tombstones(self, kind: str) -> Iterator[Row]:
        """Deleted rows of a kind that are still remembered, by name."""
        rows = self._dead.get(kind, {})
        return (rows[name] for name in sorted(rows))

    @property
    def hosts(self) -> dict[str, Host]:
        """The hosts that take part in services, by name, in the order of their names.

        Who is in quarantine does not: it is nobody's peer, in no set and no pool, and no service
        has anything for it; but for the firewall, which shuts it in.
        """
        if self._hosts is None:
            everybody = self.everybody
            apart = any(host.quarantined for host in everybody.values())
            self._hosts = (
                {name: host for name, host in everybody.items() if not host.quarantined}
                if apart
                else everybody
            )
        return self._hosts

    @property
    def everybody(self) -> dict[str, Host]:
        """All hosts by name, in the order of their names; those in quarantine, too."""
        if self._everybody is None:
            self._everybody = {row.name: row.host for row in self.rows(HOST)}
        return self._everybody

    @property
    def thrown_out(self) -> list[Row]:
        """Tombstones of the hosts that an operator removed, of the last ones."""
        return sorted(self._thrown_out.values(), key=lambda row: row.name)

    @property
    def distrusted(self) -> tuple[str, ...]:
        """Hosts that get nothing more from anybody, at once: in quarantine, or thrown out."""
        apart = self.everybody.keys() - self.hosts.keys()
        return tuple(sorted(apart | self._thrown_out.keys()))

    @property
    def groups(self) -> frozenset[str]:
        """All groups that exist: held by a host, or granted by a token."""
        held = (host.groups for host in self.everybody.values())
        return self._granted.union({ALL}, *held)

    @property
    def gone(self) -> frozenset[str]:
        """Hosts of which no agent is there any more."""
        if self._gone is None:
            rows = self._live.get(AGENT, {}).values()  # of which there are tens of thousands
            away = {_host_of(row) for row in rows if row.gone}
            here = (_host_of(row) for row in rows if away and not row.gone)
            self._gone = frozenset(away.difference(here))
        return self._gone

    def in_groups(self, groups: Iterable[str]) -> dict[str, Host]:
        """Hosts that belong to at least one of the groups; ``all`` is every host."""
        wanted = frozenset(groups)
        return {name: host for name, host in self.hosts.items() if host.within(wanted)}

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What make() gives, made the first time and kept as long as the view; nobody changes it.

        For what is the same for all hosts, and would else be made for each of them anew. key: its
        first part is who makes it, as a service's name.
        """
        if key not in self._made:
            self._made[key] = make()
        return cast("T", self._made[key])

    def members(self, service: str, instance: str) -> dict[str, Row]:
        """What hosts announced to an instance of a service, by host; not those in quarantine."""
        found = self.places(service, instance)
        if self.hosts is self.everybody:
            return found
        apart = self.everybody.keys() - self.hosts.keys()
        return {host: row for host, row in found.items() if host not in apart}

    def places(self, service: str, instance: str) -> dict[str, Row]:
        """The same of everybody: what is given to a host in quarantine is nobody else's."""
        prefix = joined(instance, "")
        return {
            row.name[len(prefix) :]: row
            for row in self.rows(member_kind(service))
            if row.name.startswith(prefix)
        }


def _hosts_after(hosts: dict[str, Host], rows: list[Row], apart: bool = False) -> dict[str, Host]:
    """All hosts by name, after these rows changed; apart: without those in quarantine."""
    if not rows:
        return hosts
    found = dict(hosts)
    for row in rows:
        if row.deleted or (apart and row.host.quarantined):
            found.pop(row.name, None)
        else:
            found[row.name] = row.host
    if found.keys() <= hosts.keys():
        return found
    return {name: found[name] for name in sorted(found)}


def _thrown_out(before: dict[str, Row], hosts: Iterable[Row]) -> dict[str, Row]:
    """Tombstones of hosts that were in quarantine last, by name, after these rows changed."""
    found = dict(before)
    for row in hosts:
        found.pop(row.name, None)
        if row.deleted and row.body.get("quarantined"):
            found[row.name] = row
    newest = sorted(found.values(), key=lambda row: row.revision)[-MOST_THROWN_OUT:]
    return found if len(newest) == len(found) else {row.name: row for row in newest}


def _gone_after(gone: frozenset[str], rows: list[Row]) -> frozenset[str] | None:
    """Who is gone after these rows changed; None where that depends on others, too."""
    if any(row.deleted or row.gone for row in rows):
        return None
    return gone.difference(map(_host_of, rows))


def _host_of(row: Row) -> str:
    """Whose row of the kind AGENT it is."""
    return row.name.partition("/")[0]
