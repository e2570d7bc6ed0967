# SPDX-License-Identifier: Apache-2.0
"""A host that calls too often is told to wait, and no other host is."""

import pytest

from cnsmo.core.call_limits import PACE, CallLimits
from cnsmo.core.context import Core
from cnsmo.core.endpoints import AgentEndpoints
from cnsmo.model.errors import Unavailable
from tests.unit.conftest import Operator, contents


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_every_call_of_agents_has_a_limit() -> None:
    calls = {name for name in vars(AgentEndpoints) if not name.startswith("_")} - {"target"}
    assert calls == set(PACE)


@pytest.mark.parametrize("call", PACE)
def test_who_calls_too_often_has_to_wait_and_others_have_not(call: str) -> None:
    clock = Clock()
    limits = CallLimits(clock)
    rate, burst = PACE[call]
    for _number in range(burst):
        limits.take(call, "h-1")
    with pytest.raises(Unavailable, match=f"calls {call} too often"):
        limits.take(call, "h-1")
    limits.take(call, "h-2")
    clock.now = 1.01 / rate
    limits.take(call, "h-1")


def test_a_flood_of_facts_makes_few_revisions(core: Core, operator: Operator) -> None:
    host, served = operator.join("web1"), AgentEndpoints(core)
    before = core.store.deployment("shop").revision
    answers = [
        served.facts(host.context, facts={"mtu": 1400 + number % 2}) for number in range(300)
    ]
    refused = [answer["error"]["code"] for answer in answers if "error" in answer]
    assert set(refused) == {Unavailable.code}
    assert core.store.deployment("shop").revision - before == 300 - len(refused) <= 11


def test_who_does_not_prove_who_it_is_uses_up_nobodys_calls(core: Core, operator: Operator) -> None:
    host, served = operator.join("web1"), AgentEndpoints(core)
    for _number in range(PACE["leave"][1] + 1):
        served.leave({**host.context, "agent_secret": "guess"})
    before = contents(core)
    assert served.leave(host.context) == {"value": None}
    assert contents(core) != before
