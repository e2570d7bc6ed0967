# SPDX-License-Identifier: Apache-2.0
from typing import Any

from cnsmo.manage import changes
from cnsmo.manage.changes import ABSENT, difference, told
from cnsmo.manage.style import Style
from cnsmo.model.messages import Plan, Problem, RowChange


def lines(*rows: RowChange, hosts=()) -> list[str]:
    plan = Plan(deployment="lab", base_revision=7, changes=list(rows), hosts=list(hosts))
    return list(told(plan, Style(enabled=False)))


def test_a_plan_without_changes_says_so_in_one_line():
    assert lines() == ["lab is as the document says (revision 7)."]


def test_who_left_is_named_with_the_place_that_names_him() -> None:
    gone = Problem(path="vpn.a.members", line=3, message="no host is in the group 'web'")
    plan = Plan(deployment="lab", base_revision=7, changes=[], hosts=[], absent=[gone])
    assert next(told(plan, Style(enabled=False))) == (
        "Means nobody now: line 3: vpn.a.members: no host is in the group 'web'"
    )


def test_an_added_row_is_shown_without_what_equals_a_default():
    row = RowChange(
        action="add",
        kind="vpn",
        name="backbone",
        after={"cidr": ["10.66.0.0/16", "fd00::/64"], "keepalive": 25, "mtu": 1400},
    )
    assert lines(row, hosts=["web1"]) == [
        "lab, on revision 7:",
        "  + vpn backbone",
        "      cidr: 10.66.0.0/16, fd00::/64",
        "      mtu: 1400",
        "1 to add, 0 to change, 0 to remove; 1 host is touched: web1.",
    ]


def test_a_row_of_a_service_that_is_not_installed_here_is_shown_whole():
    row = RowChange(action="add", kind="cache", name="a", after={"size": 3})
    assert lines(row)[2] == "      size: 3"


def test_a_changed_row_shows_old_and_new_of_the_keys_that_differ():
    before = {"cidr": ["10.66.0.0/16"], "mtu": None, "driver_options": {"a": 1}, "hub": ""}
    after = {"cidr": ["10.66.0.0/16"], "mtu": 1400, "driver_options": {"b": True}, "hub": "web"}
    row = RowChange(action="change", kind="vpn", name="backbone", before=before, after=after)
    assert lines(row, hosts=[f"h{n}" for n in range(9)]) == [
        "lab, on revision 7:",
        "  ~ vpn backbone",
        "      mtu: (default) -> 1400",
        "      driver_options.a: 1 -> (none)",
        "      driver_options.b: (none) -> true",
        '      hub: "" -> web',
        "0 to add, 1 to change, 0 to remove; "
        "9 hosts are touched: h0, h1, h2, h3, h4, h5, h6, h7 and 1 more.",
    ]


RULES = [{"from": ["edge"], "ports": [80]}, {"from": ["192.0.2.7/32"], "action": "drop"}]


def rules(*found: dict[str, Any]) -> dict[str, Any]:
    return {"inbound": list(found)}


def test_each_of_an_added_rows_rules_has_a_line() -> None:
    row = RowChange(action="add", kind="cache", name="a", after=rules(*RULES))
    assert lines(row)[2:-1] == [
        "      inbound:",
        "        - {from: edge, ports: 80}",
        "        - {from: 192.0.2.7, action: drop}",
    ]


def test_of_a_changed_rows_rules_those_that_go_and_come_are_shown() -> None:
    many = [{"ports": [port]} for port in range(1, 41)]
    row = RowChange(
        action="change", kind="cache", name="a",
        before=rules(*RULES), after=rules(RULES[0], *many),
    )  # fmt: skip
    found = lines(row)[2:-1]
    assert found[:3] == [
        "      inbound:",
        "        - {from: 192.0.2.7, action: drop}",
        "        + {ports: 1}",
    ]
    assert found[-1] == "        and 21 more"


def test_a_removed_row_is_one_line():
    row = RowChange(action="remove", kind="vpn", name="old", before={"cidr": ["10.0.0.0/8"]})
    assert lines(row) == [
        "lab, on revision 7:",
        "  - vpn old",
        "0 to add, 0 to change, 1 to remove; no host is touched.",
    ]


def test_values_that_are_lists_of_things_are_compared_whole():
    assert difference({"a": [1]}, {"a": [2]}) == [("a", [1], [2])]
    assert difference({"a": {"b": {"c": 1}}}, {"a": {"b": {}}}) == [("a.b.c", 1, ABSENT)]
    assert changes._value([{"subnet": "10.0.0.0/8"}]) == '[{"subnet": "10.0.0.0/8"}]'
    assert changes._value([]) == "(none)"
