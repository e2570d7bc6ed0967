# SPDX-License-Identifier: Apache-2.0
"""A join token that is good for nothing: one message, whatever is wrong with it."""

import time

from cnsmo.model.messages import TokenRequest
from tests.integration.fleet import Fleet

TOLD = (
    "cnsmo-agent: the join token is not valid (any more): it may be mistyped, used up, expired, "
    "revoked, or made for another host or address; ask the operator for a new one "
    "('cnsmo-manage token create')"
)


def test_every_token_that_is_no_good_ends_the_agent_with_the_same_message(fleet: Fleet) -> None:
    operator = fleet.operator
    expired = fleet.token(lifetime=1)
    expiry = time.monotonic() + 1.5
    used_up = fleet.token(uses=1)
    fleet.agent("web1", token=used_up)
    revoked = fleet.token()
    operator.token_revoke("shop", revoked.partition(".")[0])
    operator.deployment_create("other")
    foreign = str(operator.token_create("other", TokenRequest()).token)
    operator.deployment_create("gone")
    orphan = str(operator.token_create("gone", TokenRequest()).token)
    operator.deployment_delete("gone")
    fleet.until(lambda: "web1" in fleet.agents(), "web1 has used its token up")
    time.sleep(max(0.0, expiry - time.monotonic()))  # expiring is the fault
    tokens = {
        "expired": expired,
        "used-up": used_up,
        "revoked": revoked,
        "foreign-secret": f"{fleet.token().partition('.')[0]}.{foreign.partition('.')[2]}",
        "orphan": orphan,
        "invented": "t-0123456789ab.0123456789",
        "empty": "",
    }
    agents = {name: fleet.agent(f"host-{name}", token=token) for name, token in tokens.items()}
    for name, agent in agents.items():
        assert agent.ends() == 6, name
        told = [line for line in agent.said.splitlines() if line.startswith("cnsmo-agent:")]
        assert told == [TOLD], name
        assert "Traceback" not in agent.said
    assert set(fleet.agents()) == {"web1"}


def test_a_token_file_that_is_not_there_is_named(fleet: Fleet) -> None:
    agent = fleet.agent("web1", token_file="/nowhere/token")
    assert agent.ends() == 2
    assert "the join token cannot be read from /nowhere/token: No such file" in agent.said
