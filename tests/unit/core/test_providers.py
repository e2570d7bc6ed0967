# SPDX-License-Identifier: Apache-2.0
"""Cores run provider drivers: whatever the cloud says, what is kept is known and its state told."""

import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from cnsmo.core import providers as module
from cnsmo.core.context import Core
from cnsmo.core.providers import Providers
from cnsmo.model.errors import Unavailable
from cnsmo.model.messages import Problem
from cnsmo.model.resource import View
from cnsmo.services import registry
from cnsmo.services.provider import Claim, Kept, ProviderDriver
from tests.unit.conftest import Operator

DOCUMENT = "deployment: shop\nfirewall:\n  perimeter: {driver: security_group}\n"
EMPTY = "deployment: shop\n"


class Cloud(ProviderDriver):
    """A cloud that is a dictionary, and fails when it is told to."""

    name = "security_group"
    there: ClassVar[dict[str, int]] = {}
    fails: ClassVar[list[str]] = []
    says: ClassVar[Kept] = Kept()

    @classmethod
    def refused(cls, path: str, spec: BaseModel) -> list[Problem]:
        return []

    def apply(self, claim: Claim, view: View, spec: BaseModel) -> Kept:
        if "apply" in self.fails:
            raise Unavailable("the cloud does not answer: down for repairs")
        self.there[claim.tag] = self.there.get(claim.tag, 0) + 1
        return self.says

    def remove(self, claim: Claim) -> list[str]:
        if "remove" in self.fails:
            raise Unavailable("the cloud does not answer: down for repairs")
        self.there.pop(claim.tag, None)
        return []


@pytest.fixture(autouse=True)
def cloud(monkeypatch: pytest.MonkeyPatch) -> type[Cloud]:
    monkeypatch.setattr(registry, "provider_class", lambda _service, _name: Cloud)
    monkeypatch.setattr(module, "connect", lambda _name, _timeout: None)
    Cloud.there, Cloud.fails, Cloud.says = {}, [], Kept()
    return Cloud


@pytest.fixture
def providers(core: Core, operator: Operator) -> Iterator[Providers]:
    made = Providers(core)
    yield made
    made.stop()


def look(providers: Providers) -> int:
    """One look, to its end; how many instances were worked on."""
    begun = providers.look()
    for one in begun:
        one.result(30)
    return len(begun)


def status(operator: Operator) -> dict[str, Any]:
    (found,) = operator.provider_list(deployment="shop")
    return found


def test_what_is_declared_is_brought_about_and_said_to_be_ready(
    operator: Operator, providers: Providers, cloud: type[Cloud]
) -> None:
    operator.apply(document=DOCUMENT, base_revision=None)
    assert (status(operator)["state"], status(operator)["current"]) == ("joining", False)
    assert look(providers) == 1
    assert (status(operator)["state"], status(operator)["current"]) == ("ready", True)
    assert list(cloud.there.values()) == [1]


def test_nothing_is_asked_of_the_cloud_while_nothing_moves(
    operator: Operator, providers: Providers
) -> None:
    operator.apply(document=DOCUMENT, base_revision=None)
    look(providers)
    assert look(providers) == 0, "its own word of the state is no news"
    operator.join("web1").report(report={"service": "vpn", "state": "ready", "applied_revision": 1})
    assert look(providers) == 1, "a host came"
    assert look(providers) == 0


def test_it_looks_again_after_the_interval(
    operator: Operator, providers: Providers, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator.apply(document=DOCUMENT, base_revision=None)
    look(providers)
    later = module.time.monotonic() + 60
    monkeypatch.setattr(module.time, "monotonic", lambda: later)
    assert look(providers) == 1


def test_a_cloud_that_fails_is_an_error_with_the_reason_and_tried_again(
    operator: Operator, providers: Providers, cloud: type[Cloud]
) -> None:
    cloud.says = Kept(detail={"groups": 3})
    operator.apply(document=DOCUMENT, base_revision=None)
    look(providers)
    cloud.fails = ["apply"]
    operator.join("web1")
    look(providers)
    found = status(operator)
    assert (found["state"], found["reason"]) == (
        "error",
        "the cloud does not answer: down for repairs",
    )
    assert found["detail"] == {"groups": 3}, "what was there is there"
    cloud.fails = []
    operator.join("web2")
    look(providers)
    assert status(operator)["state"] == "ready"


def test_what_does_not_work_as_declared_is_told(
    operator: Operator, providers: Providers, cloud: type[Cloud]
) -> None:
    cloud.says = Kept(problems=("port security is off on web1",))
    operator.apply(document=DOCUMENT, base_revision=None)
    look(providers)
    found = status(operator)
    assert (found["state"], found["reason"]) == ("degraded", "port security is off on web1")


def test_what_takes_long_is_looked_at_again(
    operator: Operator, providers: Providers, cloud: type[Cloud]
) -> None:
    cloud.says = Kept(again=0.0)
    operator.apply(document=DOCUMENT, base_revision=None)
    look(providers)
    assert status(operator)["state"] == "configuring"
    cloud.says = Kept()
    assert look(providers) == 1
    assert status(operator)["state"] == "ready"


def test_what_is_not_declared_any_more_is_removed_and_forgotten(
    operator: Operator, providers: Providers, cloud: type[Cloud]
) -> None:
    operator.apply(document=DOCUMENT, base_revision=None)
    look(providers)
    operator.apply(document=EMPTY, base_revision=None)
    look(providers)
    assert operator.provider_list(deployment="shop") == []
    assert cloud.there == {}


def test_what_cannot_be_removed_is_known_until_it_is(
    operator: Operator, providers: Providers, cloud: type[Cloud]
) -> None:
    operator.apply(document=DOCUMENT, base_revision=None)
    look(providers)
    operator.apply(document=EMPTY, base_revision=None)
    cloud.fails = ["remove"]
    look(providers)
    found = status(operator)
    assert found["state"] == "error"
    assert found["reason"].startswith("cannot be removed: the cloud does not answer")
    cloud.fails = []
    operator.join("web1")
    look(providers)
    assert operator.provider_list(deployment="shop") == []


def test_another_driver_takes_the_place_of_the_one_in_the_cloud(
    operator: Operator, providers: Providers, cloud: type[Cloud]
) -> None:
    operator.apply(document=DOCUMENT, base_revision=None)
    look(providers)
    noop = DOCUMENT.replace("security_group", "noop")
    operator.apply(document=noop, base_revision=None)
    look(providers)
    assert cloud.there == {}
    assert operator.provider_list(deployment="shop") == []


def test_what_is_made_anew_bears_another_mark(
    operator: Operator, providers: Providers, cloud: type[Cloud]
) -> None:
    tags = []
    for document in (DOCUMENT, EMPTY, DOCUMENT):
        operator.apply(document=document, base_revision=None)
        look(providers)
        tags += list(cloud.there)
    assert len(set(tags)) == 2


def test_two_cores_agree_on_the_mark(
    core: Core, operator: Operator, providers: Providers, cloud: type[Cloud]
) -> None:
    other = Providers(core)
    operator.apply(document=DOCUMENT, base_revision=None)
    begun = [*providers.look(), *other.look()]
    for one in begun:
        one.result(30)
    other.stop()
    assert list(cloud.there.values()) == [2], "one tag, for both"


def test_one_that_is_slow_does_not_hold_up_the_others(
    operator: Operator, providers: Providers, cloud: type[Cloud], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    plain = cloud.apply

    def apply(self: Cloud, claim: Claim, view: View, spec: BaseModel) -> Kept:
        if claim.instance == "slow":
            assert gate.wait(30)
        return plain(self, claim, view, spec)

    monkeypatch.setattr(cloud, "apply", apply)
    operator.apply(
        document="deployment: shop\nfirewall:\n"
        "  quick: {driver: security_group}\n  slow: {driver: security_group}\n",
        base_revision=None,
    )
    quick, slow = providers.look()
    quick.result(30)
    states = {one["instance"]: one["state"] for one in operator.provider_list(deployment="shop")}
    assert states["quick"] == "ready"
    assert not slow.done()
    assert providers.look() == [], "what is under way is not begun twice"
    gate.set()
    slow.result(30)
