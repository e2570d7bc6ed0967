# SPDX-License-Identifier: Apache-2.0
"""The database is gone for a while, or falls silent, under a running core."""

import time

import pytest

from cnsmo.bus.clients import OperatorClient
from cnsmo.model.errors import Unavailable
from cnsmo.services import registry
from tests.beds import PostgresqlBed
from tests.integration.fleet import SHOP, Fleet

AWAY = {"kill": 5.0, "pause": 30.0}
"""Seconds; silence is the worse of the two: whatever asks it hangs."""


@pytest.mark.parametrize("how", ["kill", "pause"])
def test_calls_are_unavailable_and_the_core_lives_on(
    fleet: Fleet, postgresql: PostgresqlBed, how: str
) -> None:
    before = fleet.apply()
    agent = fleet.agent("web1", heartbeat=2, rpc_timeout=3)
    fleet.until_ready("web1", revision=before.revision or 0, services=registry.services())
    core = fleet.programs[0]
    pid = core.process.pid
    known = fleet.operator.deployment_show("shop")
    operator = OperatorClient(fleet.conf, timeout=3)
    getattr(postgresql, how)()
    gone = time.monotonic()
    while time.monotonic() - gone < AWAY[how]:
        with pytest.raises(Unavailable):
            operator.apply(SHOP.replace("driver:", "listen_port: 9, driver:"))
        time.sleep(0.5)  # being away for that long is the fault
    postgresql.recover()
    fleet.until(fleet.agents, "the core answers again")
    assert core.process.pid == pid
    assert core.process.alive
    found = fleet.operator.deployment_show("shop")
    # What was asked of a silent database may have been done when it spoke again: once, or not.
    assert found.revision - known.revision in ({0} if how == "kill" else {0, 1})
    plan = fleet.apply(SHOP.replace("driver:", "listen_port: 11, driver:"))
    assert plan.revision
    fleet.until_ready("web1", revision=plan.revision)
    assert agent.process.alive
    assert "incident" not in core.said
