# SPDX-License-Identifier: Apache-2.0
"""Heartbeats, as many at once as there are: what they say is written, what they ask is read.

However many they are: one statement writes them, executed for all at once, and one of each kind
reads what they ask. All times are the database's.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
from collections.abc import Iterable, Mapping, Sequence

import sqlalchemy as sa

from cnsmo.model.errors import Removed
from cnsmo.model.lifecycle import State
from cnsmo.model.resource import AGENT, joined
from cnsmo.state.clock import DatabaseNow
from cnsmo.state.engine import aware, retried, transaction
from cnsmo.state.liveness import not_ahead
from cnsmo.state.silences import Record, recorded
from cnsmo.state.store import Store
from cnsmo.state.tables import AGENTS, DEPLOYMENTS, IDENTITIES, RESOURCES, TIME

Place = tuple[int, str, str]
"""A deployment's id, a host, a service."""


@dataclasses.dataclass(frozen=True)
class Beat:
    """A sign of life of a host's agents: what each has applied, by service.

    ``ident``: of the host that proved who it is. ``made``: when it was made, without a zone; None:
    now. One that comes late says no more than that.
    """

    deployment_id: int
    host: str
    ident: str
    applied: Mapping[str, int]
    made: datetime.datetime | None = None

    @property
    def places(self) -> list[Place]:
        """Of its agents."""
        return [(self.deployment_id, self.host, service) for service in self.applied]


@dataclasses.dataclass(frozen=True)
class Stand:
    """An agent as it stands: what its row says, None where it has none, and what is remembered."""

    state: State | None
    record: Record


@dataclasses.dataclass(frozen=True)
class Noted:
    """What there is to say to who beats.

    ``head``: its deployment's revision. ``looked``: when operators last looked. ``now``: not before
    what was noted. ``stands``: its agents, by service, of which the core knows.
    """

    head: int
    looked: datetime.datetime | None
    now: datetime.datetime
    stands: Mapping[str, Stand]


class Beats:
    """Notes beats in the table of agents."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @retried
    def note(self, beats: Sequence[Beat]) -> list[Noted | Removed]:
        """Note beats of any hosts, in one transaction.

        Nobody has applied what is not written. Two beats of a host that overtake each other leave
        what the one says that was made later.

        :return: the answers in the same order; for who was removed meanwhile, the error: another
            may have its name by now, so it leaves nothing behind.
        """
        with transaction(self._store.engine) as connection:
            heads = _heads(connection, beats)
        counting = list(beats)
        while True:
            try:
                told = self._note_all(counting, heads)
            except _Gone as exc:
                counting = [beat for beat in counting if beat.ident not in exc.idents]
            else:
                return [told.get(id(beat)) or _removed(beat.host) for beat in beats]

    def _note_all(self, beats: Sequence[Beat], heads: Mapping[int, int]) -> dict[int, Noted]:
        """All of them, or none.

        :raises _Gone: when some of them do not count.
        """
        if not beats:
            return {}
        with self._store.turn, transaction(self._store.engine) as connection:
            _write(connection, beats, heads)
            # Asked after what was written, so that no removal comes in between.
            gone = {beat.ident for beat in beats} - _living(connection, beats)
            if gone:
                raise _Gone(gone)
            return _read(connection, beats)


class _Gone(Exception):
    """Hosts were removed meanwhile."""

    def __init__(self, idents: set[str]) -> None:
        super().__init__()
        self.idents = idents


def _heads(connection: sa.Connection, beats: Iterable[Beat]) -> dict[int, int]:
    """By deployment: its revision."""
    query = sa.select(DEPLOYMENTS.c.id, DEPLOYMENTS.c.revision).where(
        DEPLOYMENTS.c.id.in_({beat.deployment_id for beat in beats})
    )
    return {record.id: record.revision for record in connection.execute(query)}


def _removed(host: str) -> Removed:
    return Removed(f"host {host!r} was removed from its deployment")


def _write(connection: sa.Connection, beats: Sequence[Beat], heads: Mapping[int, int]) -> None:
    """In the order of the agents' keys: so two cores that do it at once wait, but not in a ring."""
    values = [
        {
            "at_deployment": beat.deployment_id,
            "at_host": beat.host,
            "at_service": service,
            "said": min(said, heads.get(beat.deployment_id, 0)),
            "made": beat.made,
        }
        for beat in sorted(beats, key=lambda it: (it.deployment_id, it.host))
        for service, said in sorted(beat.applied.items())
    ]
    for statement, dated in ((DATED, True), (UNDATED, False)):
        some = [it for it in values if (it["made"] is not None) == dated]
        if some:
            connection.execute(statement, some)


def _living(connection: sa.Connection, beats: Iterable[Beat]) -> set[str]:
    query = sa.select(IDENTITIES.c.id).where(
        IDENTITIES.c.id.in_({beat.ident for beat in beats}), IDENTITIES.c.revoked_at.is_(None)
    )
    return set(connection.scalars(query))


def _read(connection: sa.Connection, beats: Sequence[Beat]) -> dict[int, Noted]:
    """What there is to say to each, by the identity of the object."""
    stands = _stands(connection, beats)
    columns = (DEPLOYMENTS.c.id, DEPLOYMENTS.c.revision, DEPLOYMENTS.c.observe_at)
    query = sa.select(*columns, DatabaseNow().label("now")).where(
        DEPLOYMENTS.c.id.in_({beat.deployment_id for beat in beats})
    )
    deployments = {record.id: record for record in connection.execute(query)}
    return {
        id(beat): Noted(
            head=found.revision,
            looked=found.observe_at and aware(found.observe_at),
            now=aware(found.now),
            stands={place[2]: stands[place] for place in beat.places if place in stands},
        )
        for beat in beats
        if (found := deployments.get(beat.deployment_id)) is not None
    }


def _stands(connection: sa.Connection, beats: Sequence[Beat]) -> dict[Place, Stand]:
    states = _states(connection, beats)
    hosts: dict[int, set[str]] = collections.defaultdict(set)
    for beat in beats:
        hosts[beat.deployment_id].add(beat.host)
    query = sa.select(
        AGENTS.c.deployment_id, AGENTS.c.host, AGENTS.c.service, AGENTS.c.downs,
        AGENTS.c.late_at, AGENTS.c.heard_since, AGENTS.c.reported_at, DatabaseNow().label("now"),
    ).where(
        sa.or_(
            *(
                sa.and_(AGENTS.c.deployment_id == ident, AGENTS.c.host.in_(names))
                for ident, names in hosts.items()
            )
        )
    )  # fmt: skip
    return {
        place: Stand(states.get(place), recorded(record, record.now))
        for record in connection.execute(query)
        for place in [(record.deployment_id, record.host, record.service)]
    }


def _states(connection: sa.Connection, beats: Sequence[Beat]) -> dict[Place, State]:
    names: dict[int, set[str]] = collections.defaultdict(set)
    for beat in beats:
        names[beat.deployment_id] |= {joined(*place[1:]) for place in beat.places}
    query = sa.select(RESOURCES.c.deployment_id, RESOURCES.c.name, RESOURCES.c.body).where(
        sa.or_(
            *(
                sa.and_(
                    RESOURCES.c.deployment_id == ident,
                    RESOURCES.c.kind == AGENT,
                    RESOURCES.c.name.in_(some),
                )
                for ident, some in names.items()
            )
        ),
        RESOURCES.c.deleted.is_(False),
    )
    found = {}
    for record in connection.execute(query):
        host, _slash, service = record.name.partition("/")
        found[record.deployment_id, host, service] = State(record.body["state"])
    return found


def _touch(dated: bool) -> sa.Update:
    """The statement that notes one agent's part in a beat; never back: two may arrive in the other
    order.
    """
    said = sa.bindparam("said", type_=sa.BigInteger)
    values: dict[str, object] = {"applied_revision": said, "heartbeat_at": DatabaseNow()}
    if dated:
        made = sa.bindparam("made", type_=TIME)
        newer = AGENTS.c.heartbeat_at <= made
        values = {
            "applied_revision": sa.case((newer, said), else_=AGENTS.c.applied_revision),
            "heartbeat_at": sa.case((newer, not_ahead(made)), else_=AGENTS.c.heartbeat_at),
        }
    return (
        sa.update(AGENTS)
        .where(
            AGENTS.c.deployment_id == sa.bindparam("at_deployment"),
            AGENTS.c.host == sa.bindparam("at_host"),
            AGENTS.c.service == sa.bindparam("at_service"),
        )
        .values(values)
    )


DATED, UNDATED = _touch(dated=True), _touch(dated=False)
