# SPDX-License-Identifier: Apache-2.0
"""Services and drivers are found by their entry points, and a broken one is not passed over."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cnsmo.agent.system import LocalSystem
from cnsmo.model.errors import DriverUnavailable, InvalidRequest
from cnsmo.model.wording import worded
from cnsmo.services import registry
from cnsmo.services.vpn.drivers.noop import NoopDriver
from cnsmo.services.vpn.service import VpnService


def test_the_vpn_is_found_with_its_drivers() -> None:
    assert isinstance(registry.service("vpn"), VpnService)
    assert registry.driver_names("vpn") == ("noop", "openvpn", "wireguard")
    assert registry.driver_class("vpn", "noop") is NoopDriver


def test_an_unknown_service_is_named_beside_the_known_ones() -> None:
    with pytest.raises(
        InvalidRequest,
        match=r"^no service 'd\\xe4s' is installed; there are: firewall, loadbalancer, vpn$",
    ):
        registry.service("d\u00e4s")


def follow(monkeypatch: pytest.MonkeyPatch, after: dict[str, set[str]]) -> None:
    """Installed services, each with those that it comes after."""
    services = {
        name: type(name, (), {"name": name, "after": frozenset(others)})()
        for name, others in after.items()
    }
    monkeypatch.setattr(registry, "services", lambda: services)


@pytest.mark.parametrize(
    ("given", "order"),
    [
        (["a", "b", "c", "d"], ["c", "d", "b", "a"]),
        (["b", "a"], ["b", "a"]),
        (["a", "c"], ["c", "a"]),
        (["d", "c"], ["d", "c"]),
    ],
)
def test_each_service_stands_behind_those_that_it_comes_after(
    monkeypatch: pytest.MonkeyPatch, given: list[str], order: list[str]
) -> None:
    follow(monkeypatch, {"a": {"c", "b"}, "b": {"c", "not here"}, "c": set(), "d": set()})
    assert [service.name for service in registry.in_order(given)] == order


def test_services_that_wait_for_each_other_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    follow(monkeypatch, {"a": {"b"}, "b": {"a"}, "c": set()})
    with pytest.raises(InvalidRequest, match=r"^these services wait for each other: a, b$"):
        registry.in_order(["a", "b", "c"])


def test_an_unknown_driver_is_named_beside_the_known_ones() -> None:
    with pytest.raises(DriverUnavailable, match=r"no driver 'tinc' for vpn .*: noop, openvpn, wir"):
        registry.driver_class("vpn", "tinc")


def test_a_driver_is_made_for_its_unit(tmp_path: Path) -> None:
    made = registry.make_driver(
        "vpn", "noop", LocalSystem(), "backbone", "shop/web1/vpn/b", tmp_path
    )
    assert (made.unit, made.label, made.state_dir) == ("backbone", "shop/web1/vpn/b", tmp_path)


def test_a_plugin_that_does_not_load_is_not_passed_over() -> None:
    class EntryPoint:
        name, value = "dns", "nowhere:Dns"

    with pytest.raises(ImportError, match=r"plugin dns \(nowhere:Dns\): no module"):
        registry._raise(None, EntryPoint(), ImportError("no module"))


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")

    number: int = Field(1, ge=1, le=9)
    words: tuple[str, ...] = Field(("a",), min_length=1, max_length=2)
    inner: dict[str, int] = {}
    truth: bool = True


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"number": 0}, "0 is too small: at least 1"),
        ({"number": 10}, "10 is too large: at most 9"),
        ({"number": "x"}, "'x' is not a whole number"),
        ({"number": 1.5}, "1.5 is not a whole number"),
        ({"number": None}, "None is not a whole number"),
        ({"words": []}, "at least 1 is needed"),
        ({"words": ["a", "b", "c"]}, "at most 2 can be given"),
        ({"words": "a"}, "'a': a list is expected"),
        ({"words": [5]}, "5 is not a word (put it in quotes if it is meant as one)"),
        ({"inner": 7}, "7: keys and values are expected"),
        ({"more": 7}, "unknown key"),
        ({"truth": "x" * 200}, "'" + "x" * 56 + "... is neither true nor false"),
    ],
)
def test_a_finding_is_said_in_words_for_people(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Shape.model_validate(given)
    found = worded(caught.value.errors()[0])
    assert found.split(", unable")[0] == said
