# SPDX-License-Identifier: Apache-2.0
"""The database's primary dies under a running core, and its standby takes over."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from oslo_config import cfg

from cnsmo.state import schema
from cnsmo.state.engine import engine_for
from tests.beds import Vhost
from tests.beds.postgresql_pair import PostgresqlPair
from tests.integration.fleet import SHOP, Fleet
from tests.joining import Door


@pytest.fixture
def fleet(
    tmp_path: Path, broker_vhost: Vhost, pair: PostgresqlPair, conf: cfg.ConfigOpts, door: Door
) -> Iterator[Fleet]:
    url = pair.url(pair.create_database())
    engine = engine_for(url)
    schema.upgrade(engine)
    engine.dispose()
    made = Fleet(tmp_path, broker_vhost, url, conf, door)
    yield made
    made.close()


def changed(number: int) -> str:
    return SHOP.replace("driver:", f"listen_port: {number}, driver:")


def test_the_core_and_its_agents_go_on_where_they_were(fleet: Fleet, pair: PostgresqlPair) -> None:
    core = fleet.core().says("core answers")
    fleet.operator.deployment_create("shop")
    fleet.apply()
    agents = [fleet.agent(host, heartbeat=1) for host in ("web1", "web2")]
    fleet.until_ready("web1", "web2")
    before = fleet.apply(changed(1)).revision or 0
    pair.primary.kill()
    pair.promote()
    plan = fleet.insist(changed(2))
    assert plan.base_revision >= before, "what was acknowledged is there"
    fleet.until_ready("web1", "web2", revision=plan.revision or 0)
    assert all(program.process.alive for program in (core, *agents))
    assert "incident" not in core.said
