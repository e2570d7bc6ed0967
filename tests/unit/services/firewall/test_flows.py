# SPDX-License-Identifier: Apache-2.0
"""Flows between two sides: what a document's tests and ``firewall explain`` are told."""

from typing import Any

import pytest

from cnsmo.services.firewall.desired import Action
from cnsmo.services.firewall.flows import Flow
from tests.unit.services.firewall.scenes import FIREWALL, deployment, policy, view

RULES: dict[str, Any] = {
    "inbound": [
        {"from": "edge", "to": "web", "protocol": "tcp", "ports": 8080},
        {"from": "web", "to": "db", "protocol": "tcp", "ports": 5432, "name": "sql"},
    ]
}


def labels(source: str, target: str, port: int, via: str | None = None, **spec: Any) -> list[str]:
    site = FIREWALL.site(view(deployment(policy(**{**RULES, **spec}))))
    return [found.label for found in site.judge(source, target, Flow(6, port), via)]


def test_two_hosts_talk_over_the_vpn_that_they_share() -> None:
    assert labels("web1", "db1", 5432) == [
        "web1 (10.66.0.3) to db1 (10.66.0.1), tcp/5432 over the VPN backbone: "
        "accept by perimeter/inbound/sql on db1"
    ]
    assert labels("edge1", "db1", 5432) == [
        "edge1 (10.66.0.2) to db1 (10.66.0.1), tcp/5432 over the VPN backbone: "
        "drop by the default of inbound on db1"
    ]


def test_or_over_what_is_said() -> None:
    (found,) = labels("web1", "db1", 5432, via="underlay")
    assert found.startswith("web1 (10.1.0.21) to db1 (10.2.0.31), tcp/5432 over the underlay: acc")
    assert labels("web1", "db1", 5432, via="vpn:other") == []


def test_the_source_may_forbid_it() -> None:
    (found,) = labels("web1", "db1", 5432, default={"outbound": "reject"})
    assert found.endswith("reject by the default of outbound on web1")


def test_an_address_comes_from_outside() -> None:
    assert labels("192.0.2.1/32", "web1", 22) == [
        "192.0.2.1 to web1 (10.1.0.21), tcp/22 over the underlay: accept by always/failsafe on web1"
    ]


def test_a_group_is_each_of_its_hosts() -> None:
    assert len(labels("web", "db", 5432)) == 2
    assert labels("web1", "web1", 5432) == []


def test_who_has_no_firewall_accepts() -> None:
    (found,) = labels("web1", "db1", 5432, hosts="edge")
    assert found.endswith("accept by no firewall")


@pytest.mark.parametrize(("expect", "fails"), [("accept", False), ("drop", True)])
def test_a_test_in_the_document_is_held_against_the_policy(expect: str, fails: bool) -> None:
    test = {"from": "web1", "to": "db1", "port": 5432, "expect": expect}
    problems = FIREWALL.check(view(deployment(policy(**RULES, tests=[test]))))
    if not fails:
        assert problems == []
        return
    (problem,) = problems
    assert problem.path == "firewall.perimeter.tests.0"
    assert "accept by perimeter/inbound/sql on db1; drop is expected" in problem.message


@pytest.mark.parametrize(
    ("rule", "path", "message"),
    [
        ({"from": "wbe"}, "inbound.0.from", "'wbe' is neither a group nor a host"),
        ({"from": "group:web1"}, "inbound.0.from", "no host is in the group 'web1' and no token"),
        ({"to": "host:web"}, "inbound.0.to", "there is no host 'web'"),
        ({"from": "vpn:backbon"}, "inbound.0.from", "no VPN 'backbon' is declared"),
        ({"via": "vpn:x"}, "inbound.0.via", "no VPN 'x' is declared"),
    ],
)
def test_words_that_mean_nobody(rule: dict[str, Any], path: str, message: str) -> None:
    (problem,) = FIREWALL.check(view(deployment(policy(inbound=[rule]))))
    assert problem.path == f"firewall.perimeter.{path}"
    assert problem.message.startswith(message)


def test_one_host_has_one_driver() -> None:
    other = policy("other", driver="nftables")
    (problem,) = FIREWALL.check(view(deployment(policy(), other)))
    assert problem.path == "firewall.perimeter.driver"
    assert problem.remedy == "write driver: nftables"


def test_what_the_source_would_drop_on_trial_is_told_too() -> None:
    trial = policy("trial", mode="audit", default={"outbound": "drop"})
    site = FIREWALL.site(view(deployment(policy(**RULES), trial)))
    (found,) = site.judge("web1", "db1", Flow(6, 5432))
    assert found.verdict.action is Action.ACCEPT
    assert found.verdict.audits == ("trial default of outbound", "trial default of inbound")
