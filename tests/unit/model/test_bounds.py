# SPDX-License-Identifier: Apache-2.0
"""What a host may say about itself is bounded, and cannot play tricks on who reads it."""

import pytest
from pydantic import ValidationError

from cnsmo.model.host import Host, HostFacts, check_facts
from cnsmo.model.messages import AgentReport, Facts, Heartbeat


@pytest.mark.parametrize(
    "address", ["10.0.0.5/0", "10.0.0.5/7", "127.0.0.1/8", "0.0.0.0/8", "224.0.0.1/24", "fd00::1/8"]
)
def test_an_address_that_is_no_hosts_own_is_refused(address: str) -> None:
    with pytest.raises(ValidationError):
        HostFacts(private=(address,))


NOWHERE = (
    "127.0.0.1", "0.0.0.0", "0.1.2.3", "224.0.0.1", "255.255.255.255", "240.0.0.1",
    "169.254.169.254", "::1", "::", "ff02::1", "fe80::1", "::ffff:127.0.0.1", "::127.0.0.1",
)  # fmt: skip


@pytest.mark.parametrize("address", NOWHERE)
def test_an_address_by_which_others_reach_no_host_is_not_told(address: str) -> None:
    facts = HostFacts(public=(address,))
    with pytest.raises(ValueError, match="no address by which others reach a host"):
        check_facts(facts)
    with pytest.raises(ValidationError, match="no address by which others reach a host"):
        Facts.model_validate({"facts": facts.model_dump()})


@pytest.mark.parametrize("address", NOWHERE)
def test_one_that_is_stored_from_before_is_nobodys(address: str) -> None:
    host = Host(name="web1", id="h-1", public=(address, "192.0.2.1"))
    assert [str(it) for it in host.own_addresses] == ["192.0.2.1"]


def test_the_broadcast_address_is_no_hosts_own_within_a_network_either() -> None:
    with pytest.raises(ValueError, match="no address by which"):
        check_facts(HostFacts(private=("255.255.255.255/32",)))
    assert check_facts(HostFacts(private=("fe80::1/64", "10.0.0.1/8")))


def test_a_reason_loses_what_a_terminal_would_obey() -> None:
    told = AgentReport(service="vpn", state="error", reason="a\x1b[2Jb\nc", applied_revision=0)
    assert told.reason == "a?[2Jb?c"


def test_a_heartbeat_is_for_so_many_services_and_no_more() -> None:
    with pytest.raises(ValidationError):
        Heartbeat(applied={f"s{n}": 1 for n in range(33)})
