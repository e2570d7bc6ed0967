# SPDX-License-Identifier: Apache-2.0
"""What a plan says of flows that open and close."""

from typing import Any

from cnsmo.model.resource import Row
from tests.unit.services.firewall.scenes import FIREWALL, deployment, policy, view

HTTP: dict[str, Any] = {"from": "edge", "to": "web", "protocol": "tcp", "ports": 8080}
OPEN = {"inbound": "accept"}


def effects(before: list[Row], after: list[Row], host: str = "web1") -> list[str]:
    return FIREWALL.effects(view(deployment(*before)), view(deployment(*after)), host)


def test_a_first_policy() -> None:
    assert effects([], [policy(inbound=[HTTP])]) == [
        "gets a firewall",
        "opens tcp/22 from any, always (perimeter/failsafe: accept)",
        "opens tcp/8080 from edge (perimeter/inbound/1: accept)",
        "closes everything else inbound (default: accept -> drop)",
    ]


def test_rules_that_come_and_go() -> None:
    drop = {"from": "192.0.2.0/24", "action": "drop", "name": "bad"}
    before = policy(inbound=[HTTP, drop], default=OPEN)
    after = policy(inbound=[{**HTTP, "ports": [8080, 8443], "via": "backbone"}], default=OPEN)
    assert effects([before], [after]) == [
        "opens tcp/8080,8443 from edge via backbone (perimeter/inbound/1: accept)",
        "opens everything from 192.0.2.0/24 (perimeter/inbound/bad goes: drop)",
        "closes tcp/8080 from edge (perimeter/inbound/1 goes: accept)",
    ]


def test_where_a_rule_does_not_hold_it_is_not_told() -> None:
    assert effects([policy()], [policy(inbound=[HTTP])], "db1") == []


def test_another_order_or_name_changes_no_flow() -> None:
    ping = {"protocol": "icmp", "icmp": "echo-request"}
    one, other = policy(inbound=[HTTP, ping]), policy(inbound=[ping, {**HTTP, "name": "a"}])
    assert effects([one], [other]) == []


def test_a_policy_that_goes() -> None:
    assert effects([policy()], []) == ["the firewall goes: all flows open"]
    assert effects([policy()], [policy(hosts="db")]) == ["the firewall goes: all flows open"]


def test_a_default() -> None:
    closed = policy(default={"outbound": "reject"})
    assert effects([policy()], [closed]) == [
        "closes everything else outbound (default: accept -> reject)"
    ]
