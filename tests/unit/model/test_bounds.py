# SPDX-License-Identifier: Apache-2.0
"""What a host may say about itself is bounded, and cannot play tricks on who reads it."""

import pytest
from pydantic import ValidationError

from cnsmo.model.host import HostFacts
from cnsmo.model.messages import AgentReport, Heartbeat


@pytest.mark.parametrize(
    "address", ["10.0.0.5/0", "10.0.0.5/7", "127.0.0.1/8", "0.0.0.0/8", "224.0.0.1/24", "fd00::1/8"]
)
def test_an_address_that_is_no_hosts_own_is_refused(address: str) -> None:
    with pytest.raises(ValidationError):
        HostFacts(private=(address,))


def test_a_reason_loses_what_a_terminal_would_obey() -> None:
    told = AgentReport(service="vpn", state="error", reason="a\x1b[2Jb\nc", applied_revision=0)
    assert told.reason == "a?[2Jb?c"


def test_a_heartbeat_is_for_so_many_services_and_no_more() -> None:
    with pytest.raises(ValidationError):
        Heartbeat(applied={f"s{n}": 1 for n in range(33)})
