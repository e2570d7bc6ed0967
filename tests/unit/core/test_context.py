# SPDX-License-Identifier: Apache-2.0
"""What hosts are told at once, and what may wait for company."""

import pytest

from cnsmo.core.context import Core
from cnsmo.model.resource import AGENT, Row
from cnsmo.services.vpn.service import VpnService
from cnsmo.state import audit
from tests.unit.conftest import Caller, Operator, Told

HEAD = "deployment: shop\n"
MESH = HEAD + "vpn: {backbone: {cidr: 10.66.0.0/16, driver: noop}}\n"
GUARDED = HEAD + "firewall: {perimeter: {driver: noop}}\n"
OFFER = {"service": "vpn", "instance": "backbone", "body": {"driver": "noop"}}


@pytest.fixture
def web1(operator: Operator) -> Caller:
    return operator.join("web1")


@pytest.fixture(params=[MESH, GUARDED], ids=["vpn", "firewall"])
def declared(operator: Operator, request: pytest.FixtureRequest) -> None:
    operator.apply(document=request.param, base_revision=None)


def say(host: Caller, state: str, reason: str = "") -> None:
    report = {"service": "vpn", "state": state, "reason": reason, "applied_revision": 1}
    host.report(report=report)


def put_state(core: Core, state: str, reason: str = "") -> None:
    """As the core does for an agent that fell silent."""
    body = {"state": state, "reason": reason}
    core.write("shop", audit.CORE, lambda writer: writer.put(AGENT, "web1/vpn", body, "core"))


def test_what_is_declared_and_taken_away_is_told_at_once(operator: Operator, told: Told) -> None:
    for document in (MESH, HEAD):
        operator.apply(document=document, base_revision=None)
        assert told.urgent.pop()


def test_what_a_host_announces_is_told_at_once(
    operator: Operator, web1: Caller, told: Told
) -> None:
    operator.apply(document=MESH, base_revision=None)
    web1.announce(announcement=OFFER)
    assert told.urgent.pop()
    web1.withdraw(service="vpn", instance="backbone")
    assert told.urgent.pop()


def test_a_newcomer_is_told_at_once_where_rules_may_mean_it(operator: Operator, told: Told) -> None:
    operator.apply(document=GUARDED, base_revision=None)
    operator.join("web1")
    assert told.urgent.pop()


@pytest.mark.parametrize("document", [HEAD, MESH], ids=["nothing", "vpn"])
def test_a_newcomer_can_wait_where_nobody_knows_it_yet(
    operator: Operator, told: Told, document: str
) -> None:
    operator.apply(document=document, base_revision=None)
    operator.join("web1")
    assert not told.urgent.pop()


@pytest.mark.usefixtures("declared")
def test_a_changed_address_is_told_at_once(web1: Caller, told: Told) -> None:
    web1.facts(facts={"private": ["10.1.0.5/24"]})
    assert told.urgent.pop()


@pytest.mark.usefixtures("declared")
def test_a_host_that_goes_is_told_at_once(web1: Caller, told: Told) -> None:
    web1.leave()
    assert told.urgent.pop()


@pytest.mark.usefixtures("declared")
def test_an_agent_that_goes_down_and_comes_back_is_told_at_once(
    core: Core, web1: Caller, told: Told
) -> None:
    say(web1, "ready")
    put_state(core, "down")
    assert told.urgent.pop()
    say(web1, "ready")
    assert told.urgent.pop()


@pytest.mark.usefixtures("declared")
def test_how_an_agent_stands_can_wait(web1: Caller, told: Told) -> None:
    for state, reason in (
        ("ready", ""),
        ("degraded", "a peer"),
        ("degraded", "two"),
        ("ready", ""),
    ):
        say(web1, state, reason)
        assert not told.urgent.pop()


@pytest.mark.usefixtures("declared")
def test_an_agent_that_is_still_down_can_wait(core: Core, web1: Caller, told: Told) -> None:
    put_state(core, "down")
    put_state(core, "down", "for longer")
    assert not told.urgent.pop()


def test_services_are_asked_what_moves_their_hosts(
    operator: Operator, web1: Caller, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator.apply(document=MESH, base_revision=None)
    asked: list[tuple[str, str | None, str]] = []

    def moved_by(_self: VpnService, row: Row, before: Row | None) -> bool:
        asked.append((row.name, before and before.body["state"], row.body["state"]))
        return True

    monkeypatch.setattr(VpnService, "moved_by", moved_by)
    say(web1, "ready")
    assert told.urgent.pop()
    assert asked == [("web1/vpn", "joining", "ready")]


def test_a_service_that_cannot_say_has_its_hosts_told_at_once(
    web1: Caller, operator: Operator, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator.apply(document=MESH, base_revision=None)

    def moved_by(_self: VpnService, row: Row, before: Row | None) -> bool:
        raise KeyError(row.name)

    monkeypatch.setattr(VpnService, "moved_by", moved_by)
    say(web1, "ready")
    assert told.urgent.pop()
