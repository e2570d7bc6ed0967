# SPDX-License-Identifier: Apache-2.0
"""kill -9 of a core."""

import random
import threading
import time

import sqlalchemy as sa

from cnsmo.bus.clients import OperatorClient
from cnsmo.model.errors import Unavailable
from cnsmo.services import registry
from cnsmo.state.engine import engine_for
from cnsmo.state.store import Store
from tests.integration.fleet import Fleet

CHANGES = 60
KILLS = 6


def twins(number: int) -> str:
    """Two VPNs that always have the same keepalive; a document is applied wholly or not at all."""
    return (
        "deployment: shop\nvpn:\n"
        f"  one: {{cidr: 10.1.0.0/16, driver: noop, keepalive: {number}}}\n"
        f"  two: {{cidr: 10.2.0.0/16, driver: noop, keepalive: {number}, listen_port: 51999}}\n"
    )


def insist(fleet: Fleet, operator: OperatorClient, number: int) -> int:
    """Apply until it is acknowledged; returns how often nobody answered."""
    lost = 0
    while True:
        try:
            operator.apply(twins(number))
        except Unavailable:
            lost += 1
        else:
            return lost


def test_a_core_killed_at_random_moments_leaves_whole_revisions_without_gaps(fleet: Fleet) -> None:
    dice = random.Random(7)
    fleet.operator = OperatorClient(fleet.conf, timeout=3)
    fleet.apply(twins(1))
    agents = [fleet.agent("web1"), fleet.agent("web2")]
    fleet.until_ready("web1", "web2", services=registry.services())
    store = Store(engine_for(fleet.database), fleet.vault)
    base = store.deployment("shop").revision
    lost: list[int] = []
    writer = threading.Thread(
        target=lambda: lost.extend(
            insist(fleet, fleet.operator, number) for number in range(2, CHANGES + 2)
        )
    )
    writer.start()
    core, kills = fleet.programs[0], 0
    while kills < KILLS and writer.is_alive():
        time.sleep(dice.uniform(0.0, 0.2))  # the moment is the point
        core.kill()
        kills += 1
        rows = {row.name: row for row in store.view("shop").rows("vpn")}
        assert rows["one"].body["keepalive"] == rows["two"].body["keepalive"]
        assert rows["one"].revision == rows["two"].revision
        core.start().says("core answers")
    writer.join(60)
    assert kills == KILLS, "the core was quicker than the test: more changes are needed"
    assert sum(lost) <= KILLS
    head = store.deployment("shop").revision
    assert head == base + CHANGES, "one revision per change, whether its answer got lost or not"
    print(f"{kills} kills, {sum(lost)} answers lost")
    fleet.until_ready(*(agent.host for agent in agents), revision=head)
    store.engine.dispose()


def test_two_cores_share_the_work_and_one_goes_on_alone(fleet: Fleet) -> None:
    first, second = fleet.programs[0], fleet.core("second").says("core answers")
    operator = OperatorClient(fleet.conf, timeout=3)
    fleet.apply(twins(1))
    agent = fleet.agent("web1")
    fleet.until_ready("web1")
    for number in range(2, 22):
        operator.apply(twins(number))
    for core in (first, second):
        assert core.said.count("rows=2") >= 5
    killer = threading.Timer(0.05, first.kill)
    killer.start()
    lost = sum(insist(fleet, operator, number) for number in range(22, 52))
    killer.join()
    assert lost <= 1, "only what the killed core had in its hands"
    assert agent.process.alive
    with sa.create_engine(fleet.database).connect() as connection:
        head = connection.scalar(sa.text("SELECT revision FROM deployments"))
    fleet.until_ready("web1", revision=int(head or 0))
