# SPDX-License-Identifier: Apache-2.0
"""The state and its reason always reach the core, however much there is to see."""

import ipaddress
import json
from typing import Any

import pytest

from cnsmo.agent.reconcile import Outcome
from cnsmo.agent.report import report_of
from cnsmo.model.lifecycle import State
from cnsmo.model.names import check_label
from cnsmo.model.observation import LEFT_OUT, MAX_OBSERVATION, bounded


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


def test_the_core_keeps_what_agents_send() -> None:
    arrived = observed(host=rules(20_000), other=rules(20))
    assert bounded(arrived) is arrived


def test_what_was_seen_arrives_as_it_is() -> None:
    assert observed(host=rules(5000)) == {"host": rules(5000)}
    assert observed(a={"address": ipaddress.ip_address("10.0.0.1")}) == {
        "a": {"address": "10.0.0.1"}
    }


def test_of_20000_rules_the_state_arrives_and_what_is_left_out_is_named() -> None:
    size = len(json.dumps(rules(20_000)))
    assert observed(host=rules(20_000)) == {
        "host": {LEFT_OUT: f"{size:,} characters, where all units together may have 1,000,000"}
    }


def test_what_cannot_be_sent_holds_nothing_up() -> None:
    kept = observed(a={"what": object()}, b={"fine": 1})
    assert kept["a"][LEFT_OUT].startswith("unforeseen PydanticSerializationError: ")
    assert kept["b"] == {"fine": 1}


def test_no_unit_has_the_name_of_what_is_left_out() -> None:
    with pytest.raises(ValueError, match="left_out"):
        check_label(LEFT_OUT)
