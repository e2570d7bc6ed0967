# SPDX-License-Identifier: Apache-2.0
"""Heartbeats: few statements for however many, and nobody's goes back in time."""

import datetime
import itertools
import threading
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from cnsmo.model.errors import Removed
from cnsmo.model.lifecycle import State
from cnsmo.model.resource import AGENT
from cnsmo.state.beats import Beat, Beats, Noted
from cnsmo.state.clock import read_clock
from cnsmo.state.engine import transaction
from cnsmo.state.store import Store
from cnsmo.state.tables import AGENTS, IDENTITIES
from cnsmo.state.writer import Writer
from tests.integration.state.rows_read import statements

SERVICES = ("firewall", "vpn")
LONG_AGO = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC).replace(tzinfo=None)
SECOND = datetime.timedelta(seconds=1)


class Shop:
    """A deployment at revision 9 whose hosts were last heard long ago."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.beats = Beats(store)
        self.id = store.deployment("shop").id
        for number in range(9):
            self.say("thing", {"value": number})

    def say(self, name: str, body: dict[str, object], kind: str = "thing") -> None:
        self.store.write("shop", "anna", lambda writer: writer.put(kind, name, body, "core"))

    def join(self, host: str, ident: str, state: str = "ready") -> None:
        def work(writer: Writer) -> None:
            writer.connection.execute(
                sa.insert(IDENTITIES).values(
                    id=ident, deployment_id=self.id, host=host, joined_at=LONG_AGO,
                    secret_hash="", nonce_hash="",
                )
            )  # fmt: skip
            for service in SERVICES:
                writer.put(AGENT, f"{host}/{service}", {"state": state, "reason": ""}, "core")
                writer.connection.execute(
                    sa.insert(AGENTS).values(
                        deployment_id=self.id, host=host, service=service, working=True,
                        applied_revision=1, heartbeat_at=LONG_AGO,
                    )
                )  # fmt: skip

        self.store.write("shop", "anna", work)

    def leave(self, ident: str) -> None:
        with transaction(self.store.engine) as connection:
            connection.execute(
                sa.update(IDENTITIES).where(IDENTITIES.c.id == ident).values(revoked_at=LONG_AGO)
            )

    def beat(self, number: int, applied: int = 5, made: datetime.datetime | None = None) -> Beat:
        said = dict.fromkeys(SERVICES, applied)
        return Beat(self.id, f"web{number}", f"h-{number}", said, made)

    def now(self) -> datetime.datetime:
        with transaction(self.store.engine) as connection:
            return read_clock(connection)

    def known(self, number: int) -> set[tuple[int, datetime.datetime]]:
        query = sa.select(AGENTS.c.applied_revision, AGENTS.c.heartbeat_at).where(
            AGENTS.c.host == f"web{number}"
        )
        with transaction(self.store.engine) as connection:
            return {(record[0], record[1]) for record in connection.execute(query)}


@pytest.fixture
def shop(store: Store) -> Iterator[Shop]:
    made = Shop(store)
    for number in range(20):
        made.join(f"web{number}", f"h-{number}")
    return made


@pytest.mark.parametrize("hosts", [1, 20])
def test_however_many_beat_together_a_few_statements_note_them(shop: Shop, hosts: int) -> None:
    beats = [shop.beat(number, made=shop.now()) for number in range(hosts)]
    with statements(shop.store.engine) as sent:
        answers = shop.beats.note(beats)
    said = [it[0].split()[0] for it in sent]
    assert (said.count("UPDATE"), said.count("SELECT")) == (1, 5)
    assert len(answers) == hosts
    assert {applied for number in range(hosts) for applied, _at in shop.known(number)} == {5}


def test_each_is_answered_by_how_its_own_agents_stand(shop: Shop) -> None:
    shop.join("lost", "h-lost", state="down")
    unknown = Beat(shop.id, "lost", "h-lost", {"vpn": 3, "loadbalancer": 3})
    first, second = shop.beats.note([shop.beat(0), unknown])
    assert isinstance(first, Noted)
    assert isinstance(second, Noted)
    assert {service: stand.state for service, stand in first.stands.items()} == {
        "firewall": State.READY,
        "vpn": State.READY,
    }
    assert [(it, stand.state) for it, stand in second.stands.items()] == [("vpn", State.DOWN)]
    head = shop.store.deployment("shop").revision
    assert first.head == second.head == head
    assert first.looked is None


def test_nobody_has_applied_what_is_not_written(shop: Shop) -> None:
    shop.beats.note([shop.beat(0, applied=10**6)])
    head = shop.store.deployment("shop").revision
    assert {applied for applied, _at in shop.known(0)} == {head}


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("together", [True, False])
def test_beats_that_overtake_each_other_never_go_back_in_time(
    shop: Shop, order: tuple[int, ...], together: bool
) -> None:
    now = shop.now() - 10 * SECOND
    made = [shop.beat(0, applied=2 + it, made=now + it * SECOND) for it in range(3)]
    beats = [made[it] for it in order]
    for some in [beats] if together else [[it] for it in beats]:
        shop.beats.note(some)
    assert shop.known(0) == {(4, now + 2 * SECOND)}


def test_who_says_to_be_ahead_of_the_clock_is_believed_up_to_now(shop: Shop) -> None:
    before = shop.now()
    shop.beats.note([shop.beat(0, made=before + 3600 * SECOND)])
    now = shop.now()
    assert all(before - SECOND <= at <= now for _applied, at in shop.known(0))


def test_who_was_removed_leaves_nothing_behind_and_stops_nobody(shop: Shop) -> None:
    shop.leave("h-1")
    first, removed, last = shop.beats.note([shop.beat(0), shop.beat(1), shop.beat(2)])
    assert isinstance(removed, Removed)
    assert isinstance(first, Noted)
    assert isinstance(last, Noted)
    assert shop.known(1) == {(1, LONG_AGO)}
    assert [{applied for applied, _at in shop.known(it)} for it in (0, 2)] == [{5}, {5}]
    (alone,) = shop.beats.note([shop.beat(1)])
    assert isinstance(alone, Removed)


def test_two_cores_note_the_same_hosts_at_once_and_the_later_beats_stay(shop: Shop) -> None:
    begun, rounds = shop.now() - 100 * SECOND, 15
    barrier = threading.Barrier(2)
    failures: list[BaseException] = []

    def core(parity: int) -> None:
        beats = Beats(shop.store)
        try:
            for it in range(rounds):
                barrier.wait(60)
                number = 2 * it + parity
                made = begun + number * SECOND
                hosts = range(20) if parity else reversed(range(20))
                beats.note([shop.beat(host, applied=number % 8, made=made) for host in hosts])
        except BaseException as exc:  # noqa: BLE001  # told by the test
            failures.append(exc)
            barrier.abort()

    threads = [threading.Thread(target=core, args=(parity,)) for parity in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    last = 2 * rounds - 1
    expected = {(last % 8, begun + last * SECOND)}
    assert [shop.known(host) for host in range(20)] == [expected] * 20
