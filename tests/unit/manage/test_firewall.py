# SPDX-License-Identifier: Apache-2.0
"""What is said of firewalls, from rows and observations made by hand."""

from typing import Any

import pytest

from cnsmo.manage import firewall_seen, firewall_words
from cnsmo.manage.firewall_why import Reasons
from cnsmo.model.errors import InvalidRequest
from cnsmo.model.messages import AgentStatus
from cnsmo.services.firewall.desired import Action
from cnsmo.services.firewall.flows import Flow, Judged
from tests.unit.manage.kernel import kernel
from tests.unit.services.firewall.scenes import FIREWALL, compiled, deployment, host, policy, view

RULE = {"from": "web", "protocol": "tcp", "ports": [80, 443], "name": "n" * 63}


def judged(source: str, target: str, flow: Flow, *policies: Any, via: str | None = None) -> Judged:
    (found,) = FIREWALL.site(view(deployment(*policies))).judge(source, target, flow, via)
    return found


def why(source: str, target: str, flow: Flow, *policies: Any, via: str | None = None) -> str:
    reasons = Reasons(view(deployment(*policies)))
    return reasons.why(judged(source, target, flow, *policies, via=via))


def test_what_is_always_open_has_reasons() -> None:
    drivers = {"driver": "wireguard"}
    found = FIREWALL.site(view(deployment(policy(), vpn=drivers)))
    (port,) = found.judge("web1", "db1", Flow(17, 51820), "underlay")
    assert port.verdict.rule == "always/vpn-backbone"
    said = Reasons(view(deployment(policy(), vpn=drivers))).why(port)
    assert said == "what the daemons of vpn backbone need; no rule can close it"
    assert "how the host gets its address" in why("192.0.2.1/32", "db1", Flow(17, 68), policy())


def test_an_audit_alone_decides_nothing() -> None:
    trial = policy("next", mode="audit")
    found = judged("edge1", "db1", Flow(6, 80), trial)
    assert found.verdict.audits == ("next default of inbound",)
    assert why("edge1", "db1", Flow(6, 80), trial) == (
        "all policies that hold for the host are audits"
    )


def test_the_strictest_default_is_named_with_its_owners() -> None:
    lax, strict = policy("a", default={"inbound": "accept"}), policy("b")
    assert why("edge1", "db1", Flow(6, 80), lax, strict) == (
        "no rule matches; b has default {inbound: drop}"
    )


def test_a_rule_of_an_audit_is_told_in_its_words() -> None:
    reasons = Reasons(view(deployment(policy("next", inbound=[{"from": ["192.0.2.1", "web"]}]))))
    assert reasons.audit("next/inbound/1") == "{from: [192.0.2.1, web]}"
    for nobodys in ("next/inbound/2", "next/sideways/1", "other/inbound/1"):
        assert reasons.declared(nobodys) == ""


def test_a_name_of_a_host_and_a_group_must_be_said_which() -> None:
    both = view(deployment(more=[host("edge", "x")]))
    with pytest.raises(InvalidRequest, match="write group:edge or host:edge"):
        firewall_words.side(both, "edge")
    assert firewall_words.side(both, "group:edge") == "group:edge"


def test_an_addresss_owner_is_found_on_every_network() -> None:
    site = FIREWALL.site(view(deployment()))
    owners = {"10.1.0.21/32": "web1", "198.51.100.31/32": "db1", "10.66.0.2/32": "edge1"}
    assert {term: firewall_words.owner(site, term) for term in owners} == owners
    assert firewall_words.owner(site, "192.0.2.1/32") == firewall_words.owner(site, "web1") == ""


def test_rules_find_their_actions_whatever_their_length() -> None:
    name = "p" * 63
    desired = compiled(deployment(policy(name, driver="nftables", inbound=[RULE])), "db1")
    found = kernel(desired, {"always/anti-spoofing": 2, "inbound/default": 3})["host"]
    rules = firewall_seen.counted(found, desired)
    assert None not in {each.action for each in rules}
    assert any("~" in each.rule and each.action is Action.ACCEPT for each in rules)
    assert firewall_seen.dropped(rules) == 3
    assert firewall_seen.differences(desired, found) == []
    assert {each.action for each in firewall_seen.counted(found, None)} == {None, Action.DROP}


def test_what_was_left_out_of_an_observation_is_not_missing_in_the_kernel() -> None:
    desired = compiled(deployment(policy(driver="nftables")), "db1")
    found = {"left_out": "2,000,000 characters"}
    assert firewall_seen.differences(desired, found) == [
        "what the kernel holds was not kept: 2,000,000 characters"
    ]


def test_differences_that_are_of_the_whole_are_one_line() -> None:
    desired = compiled(deployment(policy(driver="nftables")), "db1")
    assert firewall_seen.differences(None, None) == firewall_seen.differences(None, {}) == []
    assert firewall_seen.differences(None, {"rules": [1]}) == [
        "the firewall is still there, though no policy holds here"
    ]
    assert firewall_seen.differences(desired, None) == [
        "nothing is known of a firewall in the kernel"
    ]
    assert firewall_seen.differences(desired, {"rules": [], "sets": {}}) == ["the table is missing"]
    assert firewall_seen.differences(desired, {"refused": "it cut the core off"}) == [
        "another ruleset is in force: it cut the core off"
    ]


def test_sets_are_compared_as_far_as_they_are_told() -> None:
    many = [f"192.0.2.{number}" for number in range(1, 60, 2)]
    rules = [{"from": many}, {"from": ["10.0.0.0/8", "11.1.0.0/16"]}]
    desired = compiled(deployment(policy(driver="nftables", inbound=rules)), "db1")
    found = kernel(desired, {})["host"]
    assert firewall_seen.differences(desired, found) == []
    long = next(told for told in found["sets"].values() if told["count"] == 30)
    assert len(long["elements"]) < long["count"]
    long["count"] = 29
    del found["sets"]["vpn-pools-4"]
    found["sets"].pop([name for name in desired.sets if name.endswith("_u_4")][-1])
    lines = firewall_seen.differences(desired, found)
    assert len(lines) == 2
    assert all("is missing" in line or "has 29 members, 30 are desired" in line for line in lines)


def test_observations_of_other_shapes_are_passed_over() -> None:
    agent = AgentStatus(host="a", service="firewall", state="ready", reason="")
    assert firewall_seen.seen(None) is firewall_seen.seen(agent) is None
    odd = agent.model_copy(update={"observation": {"host": ["up"]}})
    assert firewall_seen.seen(odd) is None
