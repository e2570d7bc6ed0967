# SPDX-License-Identifier: Apache-2.0
"""Two cores share the periodic work; one of them is killed while it has claimed some."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from oslo_config import cfg

from cnsmo.state import schema, sealing
from cnsmo.state.engine import engine_for, transaction
from cnsmo.state.store import Store
from cnsmo.state.tables import CLAIMS
from cnsmo.state.vault import vault_of
from tests.beds import Vhost
from tests.eventually import eventually
from tests.integration.fleet import Fleet, Program
from tests.joining import Door

DEPLOYMENTS = 20
BUSY = {"health_interval": 0.2, "purge_interval": 0.2, "down_after": 5, "claim_life": 3}


@pytest.fixture
def store(database_url: str, conf: cfg.ConfigOpts) -> Iterator[Store]:
    """A System State with many deployments, in each kind of database."""
    engine = engine_for(database_url)
    schema.upgrade(engine)
    sealing.check(engine, vault_of(conf))
    made = Store(engine, vault_of(conf))
    for number in range(DEPLOYMENTS):
        made.create(f"d{number}")
    yield made
    engine.dispose()


@pytest.fixture
def fleet(
    tmp_path: Path,
    broker_vhost: Vhost,
    database_url: str,
    conf: cfg.ConfigOpts,
    door: Door,
    store: Store,
) -> Iterator[Fleet]:
    made = Fleet(tmp_path, broker_vhost, database_url, conf, door)
    made.settings["DEFAULT"] = {"debug": True}
    made.core_settings["bus"] = {"audit_interval": 0.2}
    yield made
    made.close()


def claimed(store: Store, core: Program) -> dict[str, int]:
    """What a core has claimed and not done: names with their numbers."""
    with transaction(store.engine) as connection:
        query = sa.select(CLAIMS).where(CLAIMS.c.until.is_not(None))
        return {
            record.name: record.number
            for record in connection.execute(query)
            if int(record.owner.split(":")[1]) in core.process.family
        }


def begun(core: Program) -> list[tuple[str, int]]:
    """What a core has begun, as its log tells."""
    found = re.findall(r"claim=(\S+) number=(\d+)", core.said)
    return [(name, int(number)) for name, number in found]


def caught(store: Store, core: Program) -> dict[str, int]:
    """Stop a core in the middle of what it has claimed; nothing when it has claimed nothing."""
    core.process.pause()
    found = claimed(store, core)
    if not found:
        core.process.resume()
    return found


def test_a_core_that_is_killed_leaves_its_work_to_the_other_and_nothing_is_done_twice(
    fleet: Fleet, store: Store
) -> None:
    victim, other = (fleet.core(name, **BUSY) for name in ("victim", "other"))
    for core in (victim, other):
        fleet.until(lambda core=core: begun(core), f"{core.log.name} takes part")
    held = eventually(lambda: caught(store, victim), what="it is caught with claims")
    victim.kill()
    fleet.until(
        lambda: all(dict(begun(other)).get(name, 0) > number for name, number in held.items()),
        "the other has taken over",
    )
    fleet.until(lambda: len(dict(begun(other))) == 2 * DEPLOYMENTS + 3, "it does all the work")
    done = Counter([*begun(victim), *begun(other)])
    assert max(done.values()) == 1, "no claim was given to two"
    assert other.process.alive
    print(f"{len(held)} claims passed on; {len(begun(victim))} and {len(begun(other))} begun")
