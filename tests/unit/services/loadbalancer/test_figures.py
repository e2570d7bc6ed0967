# SPDX-License-Identifier: Apache-2.0
"""What Prometheus gets of a load balancer."""

import datetime
import re
from pathlib import Path
from typing import Any

import pytest

from cnsmo.services.loadbalancer.drivers.noop import NoopDriver
from cnsmo.services.loadbalancer.figures import STATES
from tests.unit.services.loadbalancer.scenes import BALANCER, balancer, compiled, deployment

WEB1 = {
    "state": "up", "why": "L7OK", "weight": 3, "sessions": 2, "total": 70, "rate": 5, "errors": 1,
}  # fmt: skip
DETAIL = {
    "servers": {"default": {"web1": WEB1}, "api": {"web1": {**WEB1, "state": "leaving"}}},
    "frontends": {
        "*:80": {"state": "full", "sessions": 4, "total": 90, "rate": 7, "errors": 6},
        "*:81": {"state": "open", "sessions": 0, "total": 0, "rate": 0, "errors": 0},
    },
    "certificates": {"/etc/ssl/shop.pem": {"names": ["a"], "expires": "2026-12-01T00:00:00+00:00"}},
    "vip": True,
}


def told(detail: dict[str, Any]) -> dict[tuple[str, ...], float]:
    """Values by name and values of labels."""
    found = {(it.name, *it.labels.values()): it.value for it in BALANCER.figures(detail)}
    assert len(found) == len(list(BALANCER.figures(detail))), "no series is there twice"
    return found


def test_servers_of_all_pools_have_their_figures() -> None:
    found = told(DETAIL)
    for name, value in (
        ("server_weight", 3), ("server_current_sessions", 2), ("server_requests", 70),
        ("server_request_rate", 5), ("server_errors", 1),
    ):  # fmt: skip
        assert found[name, "default", "web1"] == found[name, "api", "web1"] == value


@pytest.mark.parametrize("state", STATES)
def test_a_server_is_in_one_state_and_the_others_are_told_too(state: str) -> None:
    found = told({"servers": {"default": {"web1": {**WEB1, "state": state}}}})
    states = {key[-1]: value for key, value in found.items() if key[0] == "server_state"}
    assert states == {each: float(each == state) for each in STATES}


def test_frontends_certificates_and_the_vip_have_theirs() -> None:
    found = told(DETAIL)
    assert found["frontend_current_sessions", "*:80"] == 4
    assert found["frontend_requests", "*:80"] == 90
    assert found["frontend_request_rate", "*:80"] == 7
    assert found["frontend_errors", "*:80"] == 6
    assert (found["frontend_full", "*:80"], found["frontend_full", "*:81"]) == (1, 0)
    ends = datetime.datetime(2026, 12, 1, tzinfo=datetime.UTC).timestamp()
    assert found["certificate_expiry_timestamp_seconds", "/etc/ssl/shop.pem"] == ends
    assert found[("vip_held",)] == 1
    assert told({**DETAIL, "vip": False})[("vip_held",)] == 0


def test_what_a_driver_does_not_know_is_missing_and_not_zero() -> None:
    found = told(
        {
            "servers": {"default": {"web1": {**WEB1, "errors": None}}},
            "frontends": {"*:80": {"sessions": 4, "total": 90, "rate": 7}},
        }
    )
    unknown = ("server_errors", "vip_held", "frontend_errors", "frontend_full")
    assert not [key for key in found if key[0] in unknown]


def test_totals_are_counters_and_nothing_else_is() -> None:
    counters = {it.name for it in BALANCER.figures(DETAIL) if it.counter}
    assert counters == {
        "server_requests",
        "server_errors",
        "frontend_requests",
        "frontend_errors",
    }


def test_what_bears_one_name_has_the_same_labels_and_meaning() -> None:
    known: dict[str, Any] = {}
    for it in BALANCER.figures(DETAIL):
        form = (tuple(it.labels), it.meaning, it.counter)
        assert known.setdefault(it.name, form) == form


def test_a_driver_that_counts_nothing_has_the_states() -> None:
    driver = NoopDriver.__new__(NoopDriver)
    found = told(driver.detail(compiled(deployment(balancer()))))
    up = {key[2] for key, value in found.items() if key[0] == "server_state" and value}
    assert up == {"web1", "web2", "web3"}
    assert found["server_state", "default", "web1", "unchecked"] == 1


def test_the_page_names_every_figure() -> None:
    page = (Path(__file__).parents[4] / "doc" / "loadbalancer.md").read_text()
    wanted = {
        f"cnsmo_loadbalancer_{it.name}{'_total' if it.counter else ''}"
        for it in BALANCER.figures(DETAIL)
    }
    assert set(re.findall(r"`(cnsmo_loadbalancer_\w+)`", page)) == wanted
