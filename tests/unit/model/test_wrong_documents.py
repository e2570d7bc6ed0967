# SPDX-License-Identifier: Apache-2.0
"""A wrong document writes nothing; its author is told what is wrong, where, what is right."""

import inspect
import re
import typing
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from cnsmo.core.context import Core
from cnsmo.core.declare import Declare
from cnsmo.model.audit import Act
from cnsmo.model.errors import InvalidDocument
from cnsmo.services.loadbalancer.spec import LoadBalancerSpec
from tests.unit.conftest import Operator, Told
from tests.unit.model.wrong_balancers import WRONG_BALANCERS
from tests.unit.model.wrong_clouds import WRONG_CLOUDS
from tests.unit.model.wrong_documents import WRONG as WRONG_VPNS
from tests.unit.model.wrong_documents import vpn
from tests.unit.model.wrong_policies import WRONG_POLICIES

ANNA = Act.of_operator("anna", "apply")
WRONG = {**WRONG_VPNS, **WRONG_POLICIES, **WRONG_BALANCERS, **WRONG_CLOUDS}


@pytest.fixture
def declare(core: Core, operator: Operator) -> Declare:
    operator.join("db1", operator.token(groups=["db"]), private=["192.168.7.5/24"])
    operator.token(groups=["web"])
    return Declare(core)


def test_enough_wrong_documents_are_tried() -> None:
    assert len(WRONG) >= 60


def test_every_key_of_a_load_balancer_is_wrong_once() -> None:
    places = {
        re.sub(r"\.\d+", "", message.split(": ")[1].removeprefix("loadbalancer.www."))
        for _document, message in WRONG_BALANCERS.values()
    }
    missing = {
        key
        for key in keys_of(LoadBalancerSpec)
        if not any(place == key or place.startswith(f"{key}.") for place in places)
    }
    assert missing == set()


def keys_of(model: type[BaseModel], before: str = "") -> Iterator[str]:
    """All keys as operators write them; a pool's once."""
    for name, field in model.model_fields.items():
        yield f"{before}{name}"
        if name != "pool" or not before:
            for inner in models_in(field.annotation):
                yield from keys_of(inner, f"{before}{name}.")


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from models_in(argument)


def test_every_wrong_document_gets_its_one_message_and_writes_nothing(
    declare: Declare, core: Core, told: Told
) -> None:
    before = core.store.changes("shop")
    told.events.clear()
    said = {}
    for what, (document, _message) in WRONG.items():
        for attempt in (
            lambda d: declare.apply(d, Act.of_operator("anna", "apply"), None),
            declare.plan,
        ):
            with pytest.raises(InvalidDocument) as caught:
                attempt(document)
            said[what] = str(caught.value)
    assert said == {what: message for what, (_document, message) in WRONG.items()}
    assert core.store.changes("shop") == before
    assert not told.events


@pytest.mark.parametrize("what", WRONG)
def test_a_message_is_one_printable_line(what: str) -> None:
    message = WRONG[what][1]
    assert message.isprintable()
    assert message.isascii()
    assert len(message) < 300


def test_every_mistake_gets_a_message_of_its_own_in_the_order_of_lines(declare: Declare) -> None:
    with pytest.raises(InvalidDocument) as caught:
        declare.plan(
            "deployment: shop\n"
            "vpn:\n"
            "  a:\n"
            "    mtu: 5\n"
            "    colour: red\n"
            "  b: {cidr: 10.1.0.1/16, listen_port: 0}\n"
            "dns: {}\n"
        )
    assert str(caught.value).splitlines() == [
        "line 3: vpn.a.cidr: this key is needed",
        "line 4: vpn.a.mtu: 5 is too small: at least 576",
        "line 5: vpn.a.colour: unknown key (known: cidr, driver, driver_options, hub, keepalive, "
        "listen_port, members, mtu, quarantine, relay, rotate_after, routes, topology)",
        "line 6: vpn.b.cidr: 10.1.0.1/16 has host bits set: did you mean 10.1.0.0/16?",
        "line 6: vpn.b.listen_port: 0 is too small: at least 1",
        "line 7: dns: no such service (known: deployment, firewall, loadbalancer, vpn)",
    ]
    problems = caught.value.details["problems"]
    assert [problem["column"] for problem in problems] == [3, 5, 5, 7, 26, 1]


def test_a_flood_of_mistakes_is_cut(declare: Declare) -> None:
    keys = "".join(f"  n{number}: {{}}\n" for number in range(300))
    with pytest.raises(InvalidDocument) as caught:
        declare.plan(f"deployment: shop\nvpn:\n{keys}")
    assert len(str(caught.value).splitlines()) == 100


def test_a_right_document_is_right(declare: Declare) -> None:
    (change,) = declare.plan(vpn("{cidr: 10.66.0.0/16, members: [web, db]}")).changes
    assert change.action == "add"
