# SPDX-License-Identifier: Apache-2.0
"""The state and its reason always reach the core, however much there is to see."""

import ipaddress
import json
from typing import Any

import pytest

from cnsmo.agent.reconcile import Outcome
from cnsmo.agent.report import report_of
from cnsmo.core import membership
from cnsmo.model.lifecycle import State
from cnsmo.model.messages import LEFT_OUT, MAX_OBSERVATION
from cnsmo.model.names import check_label


def observed(**observation: Any) -> dict[str, Any]:
    """What arrives of an observation, as the core measures it."""
    report = report_of("firewall", Outcome(State.READY, "", observation, applied=True), 7)
    arrived = report.model_dump(mode="json")["observation"]
    assert len(json.dumps(arrived)) <= MAX_OBSERVATION
    return dict(arrived)


def rules(count: int) -> dict[str, Any]:
    """A firewall driver's detail of so many rules."""
    rule = {"part": "enforce", "instance": "perimeter", "direction": "inbound", "realm": "backbone"}
    return {"rules": [{**rule, "rule": f"r{i}", "packets": i, "bytes": i} for i in range(count)]}


def test_a_report_fits_into_its_message() -> None:
    outcome = Outcome(State.ERROR, "x" * 1000, {"a": 1}, applied=False)
    report = report_of("notes", outcome, 7)
    assert (len(report.reason), report.applied_revision) == (500, 7)


def test_the_core_takes_what_agents_send() -> None:
    assert membership.MAX_OBSERVATION >= MAX_OBSERVATION


def test_what_was_seen_arrives_as_it_is() -> None:
    assert observed(host=rules(5000)) == {"host": rules(5000)}
    assert observed(a={"address": ipaddress.ip_address("10.0.0.1")}) == {
        "a": {"address": "10.0.0.1"}
    }


def test_of_20000_rules_the_state_arrives_and_what_is_left_out_is_named() -> None:
    size = len(json.dumps({"host": rules(20_000)}))
    assert observed(host=rules(20_000)) == {
        LEFT_OUT: f"host: {size:,} characters are more than a report holds"
    }


def test_the_largest_are_left_out_first() -> None:
    kept = observed(a=rules(20_000), b=rules(10), c=rules(30_000))
    assert kept.pop(LEFT_OUT).startswith("c: ")
    assert kept == {"b": rules(10)}


def test_what_is_said_of_what_was_left_out_fits_too() -> None:
    size = MAX_OBSERVATION - 10_100
    kept = observed(
        a={"b": "x" * size}, **{f"unit-{n}": {"\U0001f600": object()} for n in range(50)}
    )
    assert len(kept[LEFT_OUT]) == 500
    assert kept["a"] == {"b": "x" * size}


def test_many_units_that_fit_one_by_one_fit_together() -> None:
    kept = observed(**{f"unit-{number}": rules(300) for number in range(100)})
    assert 10 < len(kept) < 30


def test_what_cannot_be_sent_holds_nothing_up() -> None:
    kept = observed(a={"what": object()}, b={"fine": 1})
    assert kept.pop(LEFT_OUT).startswith("a: unforeseen PydanticSerializationError: ")
    assert kept == {"b": {"fine": 1}}


def test_no_unit_has_the_name_of_what_is_left_out() -> None:
    with pytest.raises(ValueError, match="left_out"):
        check_label(LEFT_OUT)
