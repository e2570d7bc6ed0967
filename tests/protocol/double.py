# SPDX-License-Identifier: Apache-2.0
"""The System State as a value: what the database does, without one.

All decisions are the product's (cnsmo.state.protocol and .changeset, cnsmo.core.host_rows); what
SQL does beside them is done here again, and test_double.py compares the two.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
from collections.abc import Callable, Collection, Iterable

from cnsmo.core import host_rows
from cnsmo.model.errors import Removed
from cnsmo.model.host import HostFacts
from cnsmo.model.lifecycle import GONE, WORKING, State
from cnsmo.model.messages import AgentReport
from cnsmo.model.resource import AGENT, OPERATOR, Changes, Row, joined
from cnsmo.state import protocol
from cnsmo.state.changeset import Changeset

DEPLOYMENT = "shop"
SERVICE = "vpn"
THING = "vpn.renewal"
"""The kind of what operators write here: any but hosts and agents."""
FACTS = HostFacts()
NOW = datetime.datetime(2026, 11, 22, tzinfo=datetime.UTC)


@dataclasses.dataclass(frozen=True)
class Sign:
    """What the table of agents holds of a host; ``by``: who said it (the table does not know)."""

    applied: int
    working: bool
    by: str


@dataclasses.dataclass(frozen=True)
class Base:
    """A deployment in the database. ``living``: ids of its hosts, by name."""

    head: int = 0
    purged: int = 0
    rows: tuple[Row, ...] = ()
    signs: tuple[tuple[str, Sign], ...] = ()
    living: tuple[tuple[str, str], ...] = ()

    @functools.cached_property
    def by_name(self) -> dict[tuple[str, str], Row]:
        """All rows, and tombstones."""
        return {(row.kind, row.name): row for row in self.rows}

    def write(self, work: Callable[[Draft], None]) -> Base:
        """What one write leaves behind."""
        draft = Draft(self)
        work(draft)
        changed = {(row.kind, row.name): row for row in draft.changed}
        rows = {**self.by_name, **changed}
        return dataclasses.replace(
            self, head=draft.revision, rows=tuple(rows[key] for key in sorted(rows))
        )

    def changes(self, since: int) -> Changes:
        """What the store answers to a reader."""
        snapshot = protocol.needs_snapshot(since, self.head, self.purged)
        rows = [row for row in self.rows if protocol.is_told(row.revision, since, snapshot)]
        rows.sort(key=lambda row: (row.revision, row.kind, row.name))
        return Changes(deployment=DEPLOYMENT, head=self.head, snapshot=snapshot, rows=rows)

    def purge(self, until: int) -> Base:
        """Forget the tombstones up to a revision."""
        gone = [row.revision for row in self.rows if row.deleted and row.revision <= until]
        if not gone:
            return self
        return dataclasses.replace(
            self,
            purged=protocol.later_horizon(self.purged, max(gone)),
            rows=tuple(row for row in self.rows if row.revision not in gone or not row.deleted),
        )

    def put(self, name: str) -> Base:
        """An operator writes a thing, as it was never before."""
        value = {"value": self.head + 1}
        return self.write(lambda draft: _done(draft.put(THING, name, value, OPERATOR)))

    def delete(self, name: str) -> Base:
        """An operator deletes a thing."""
        return self.write(lambda draft: _done(draft.delete(THING, name)))

    def join(self, idents: Iterable[tuple[str, str]], repeated: bool = False) -> Base:
        """Hosts join, in one write: names and ids."""
        welcomed: list[tuple[str, str]] = []

        def work(draft: Draft) -> None:
            for host, ident in idents:
                host_rows.put_host(draft, host, ident, [], FACTS)
                if host_rows.welcome(draft, host, SERVICE, ident, repeated):
                    welcomed.append((host, ident))

        done = self.write(work)
        signs = {host: Sign(0, False, ident) for host, ident in welcomed}
        return done._with(signs, {**dict(self.living), **dict(idents)})

    def remove(self, host: str) -> Base:
        """An operator removes a host, which is there."""
        done = self.write(lambda draft: _done(host_rows.take_out(draft, host, [SERVICE], True)))
        living = {name: ident for name, ident in self.living if name != host}
        signs = tuple(it for it in self.signs if it[0] != host)
        return dataclasses.replace(done, signs=signs)._with({}, living)

    def report(self, host: str, ident: str, report: AgentReport) -> Base:
        """What an agent says of itself.

        :raises Removed: when it may not.
        """
        done = self.write(lambda draft: host_rows.reported(draft, host, ident, report, held=False))
        working = report.state in WORKING
        applied = min(report.applied_revision, self.head)
        return done._with({host: Sign(applied, working, ident)}, dict(done.living))

    def beat(self, host: str, ident: str, applied: int) -> Base:
        """A sign of life.

        :raises Removed: when it may not.
        """
        self.check(host, ident)
        sign = dict(self.signs).get(host)
        if sign is None:
            return self
        sign = dataclasses.replace(sign, applied=min(applied, self.head), by=ident)
        return self._with({host: sign}, dict(self.living))

    def check(self, host: str, ident: str) -> None:
        """As the table of identities says.

        :raises Removed: when the host was removed.
        """
        if dict(self.living).get(host) != ident:
            raise Removed(f"host {host!r} was removed from its deployment")

    def down(self, host: str) -> Base:
        """The core has not heard of an agent for too long."""
        if self.state_of(host) in (None, *GONE):
            return self
        return self.write(
            lambda draft: host_rows.transition(draft, host, SERVICE, State.DOWN, "", "core")
        )

    def state_of(self, host: str) -> State | None:
        """What the core says of an agent."""
        row = self.by_name.get((AGENT, joined(host, SERVICE)))
        return None if row is None or row.deleted else State(row.body["state"])

    def confirmed(self) -> dict[str, int]:
        """What all agents that work have applied."""
        applied = [sign.applied for _host, sign in self.signs if sign.working]
        return {SERVICE: min(applied)} if applied else {}

    def forgotten(self, host: str) -> list[str]:
        """Of what an agent that beats has to report."""
        unknown = host not in dict(self.signs) or host_rows.must_report(self.state_of(host))
        return [SERVICE] * unknown

    def vague(self) -> Base:
        """The same, but for what agents have said of the revision that is in force."""
        signs = tuple((host, dataclasses.replace(sign, applied=0)) for host, sign in self.signs)
        return dataclasses.replace(self, signs=signs)

    def live(self) -> frozenset[tuple[str, str, int]]:
        """What a replica of this moment has to hold."""
        return held(self.rows)

    def _with(self, signs: dict[str, Sign], living: dict[str, str]) -> Base:
        later = {**dict(self.signs), **signs}
        return dataclasses.replace(
            self, signs=tuple(sorted(later.items())), living=tuple(sorted(living.items()))
        )


class Draft(Changeset):
    """A write to a Base."""

    def __init__(self, base: Base) -> None:
        super().__init__(DEPLOYMENT, base.head, "", NOW)
        self._base = base

    def _find(self, kind: str, name: str) -> Row | None:
        return self._base.by_name.get((kind, name))

    def _find_all(self, kinds: Collection[str]) -> list[Row]:
        return [row for row in self._base.rows if row.kind in kinds]


def held(rows: Iterable[Row]) -> frozenset[tuple[str, str, int]]:
    """The live rows among them, as they are compared: a revision has one body."""
    return frozenset((row.kind, row.name, row.revision) for row in rows if not row.deleted)


def _done(_value: object) -> None:
    """Nobody asks what came of it."""
