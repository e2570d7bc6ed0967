# SPDX-License-Identifier: Apache-2.0
"""Claims of periodic work, in each kind of database: one has it, and when it dies, another one."""

import datetime
import multiprocessing.pool
import threading
from collections import Counter

import pytest
import sqlalchemy as sa

from cnsmo.state.claims import Claims
from cnsmo.state.clock import read_clock
from cnsmo.state.engine import transaction
from cnsmo.state.store import Store
from cnsmo.state.tables import CLAIMS
from tests.eventually import eventually
from tests.integration.state import processes

LIFE = 3600.0
OF_EACH, OF_ALL = ("health", "purge"), ("ended",)
WORKS = (*OF_EACH, *OF_ALL)


def claims(store: Store, owner: str, life: float = LIFE) -> Claims:
    return Claims(store, owner, life)


@pytest.fixture
def one(store: Store) -> Claims:
    made = claims(store, "one")
    made.provide(OF_EACH, OF_ALL)
    return made


def names(found) -> list[str]:
    return sorted(f"{claim.work} {claim.deployment}".strip() for claim in found)


def test_the_database_has_a_clock_of_its_own_in_utc(store: Store) -> None:
    with transaction(store.engine) as connection:
        told = read_clock(connection)
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    assert abs(told - now) < datetime.timedelta(minutes=5)
    assert told.tzinfo is None


def test_each_deployment_has_its_work_and_who_was_quicker_has_it(store: Store, one: Claims) -> None:
    store.create("lab")
    two = claims(store, "two")
    for other in (one, two, one):
        other.provide(OF_EACH, OF_ALL)
    assert names(one.take(("health",), 9)) == ["health lab", "health shop"]
    assert names(two.take(WORKS, 9)) == ["ended", "purge lab", "purge shop"]
    assert one.take(WORKS, 9) == two.take(WORKS, 9) == []


def test_what_is_done_is_due_again_after_its_time(store: Store, one: Claims) -> None:
    (claim,) = one.take(("ended",), 1)
    one.done(claim, after=3600)
    assert one.take(("ended",), 1) == []
    (claim,) = one.take(("health",), 1)
    one.done(claim, after=0)
    (again,) = claims(store, "two").take(("health",), 1)
    assert (again.name, again.number) == (claim.name, claim.number + 1)


def test_a_claim_passes_on_when_its_time_is_over_and_is_nobodys_twice(
    store: Store, one: Claims
) -> None:
    short, two = claims(store, "dies", life=0.0), claims(store, "two")
    (lost,) = short.take(("health",), 1)
    (taken,) = eventually(lambda: two.take(("health",), 1))
    assert (taken.name, taken.number) == (lost.name, lost.number + 1)
    assert not short.holds(lost)
    short.done(lost, after=0)
    assert two.holds(taken), "who woke up too late changes nothing"
    assert one.take(("health",), 1) == []


def test_who_holds_a_claim_has_it_for_the_whole_time_again(store: Store) -> None:
    mine, two = claims(store, "mine", life=0.0), claims(store, "two")
    mine.provide(OF_EACH, OF_ALL)
    (claim,) = mine.take(("health",), 1)
    assert claims(store, "mine").holds(claim)
    assert two.take(("health",), 1) == []


def test_a_deployment_takes_its_claims_with_it(store: Store, one: Claims) -> None:
    held = one.take(("health",), 1)
    store.delete("shop")
    assert len(held) == 1
    assert not one.holds(held[0])
    assert names(one.take(WORKS, 9)) == ["ended"]


@pytest.mark.may_skip("SQLite has one lock for all")
def test_what_another_transaction_has_locked_is_not_waited_for(store: Store, one: Claims) -> None:
    if store.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one lock for all")
    with transaction(store.engine) as connection:
        name = f"health/{store.deployment('shop').id}"
        query = sa.select(CLAIMS).where(CLAIMS.c.name == name).with_for_update()
        connection.execute(query).one()
        found = []
        taking = threading.Thread(target=lambda: found.extend(one.take(WORKS, 9)))
        taking.start()
        taking.join(10)
        assert not taking.is_alive()
    assert names(found) == ["ended", "purge shop"]


def test_two_processes_share_all_work_and_do_nothing_twice(
    store: Store, one: Claims, rivals: multiprocessing.pool.Pool
) -> None:
    for number in range(20):
        store.create(f"d{number}")
    one.provide(OF_EACH, OF_ALL)
    url = store.engine.url.render_as_string(hide_password=False)
    orders = [(url, str(store.vault.path), owner) for owner in ("a", "b")]
    told = rivals.starmap(processes.claim_often, orders, chunksize=1)
    done = Counter(claim for part in told for claim in part)
    assert set(done.values()) == {1}, "no number of a claim was given out twice"
    by_name = Counter(name for name, _number in done)
    assert len(by_name) == 43
    assert set(by_name.values()) == {processes.ROUNDS}
