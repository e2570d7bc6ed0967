# SPDX-License-Identifier: Apache-2.0
"""Whatever is written in a deployment document: it is applied whole, or told what is wrong."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from cnsmo.core.context import Core
from cnsmo.core.endpoints import OperatorEndpoints
from cnsmo.model.document import Document, parse
from cnsmo.model.errors import CnsmoError, InvalidDocument
from cnsmo.services import registry
from tests.fuzz.wild import DEPTHS, damaged, deep, fuzzed, json_value, mutations, text
from tests.unit.conftest import Operator, contents

SHOP = """\
deployment: shop
# the mesh
vpn:
  backbone:
    cidr: [10.66.0.0/16, "fd66::/64"]
    driver_options: {}
    routes: [{subnet: 10.9.0.0/16, via: db1}]
    members: [all]
    mtu: 1400
firewall:
  perimeter:
    inbound:
      - {name: ping, protocol: icmp, icmp: echo-request, via: backbone}
      - {name: www, from: any, to: edge, protocol: tcp, ports: [80, 8000-8080]}
      - {name: pool, from: edge, to: web, protocol: tcp, ports: 8080, via: backbone}
    failsafe: [{ports: 22, from: 192.0.2.0/24}]
    tests:
      - {from: 203.0.113.1, to: edge, port: 80, expect: accept}
loadbalancer:
  www:
    on: edge
    listen: 80
    pool: {group: web, port: 8080, via: backbone, weights: {web1: 2}}
    check: {http: /, interval: 1s}
"""
RIGHT = yaml.safe_load(SHOP)
SCALARS = [
    "0x10",
    "012",
    "1e3",
    "1.0e999",
    "12:30",
    "~",
    "2026-11-22",
    "!!int 7",
    "&a 1",
    "=",
    "<<",
]


class Scene:
    """A core with three hosts and nothing declared."""

    def __init__(self, core: Core, operator: Operator) -> None:
        self.core = core
        for host, group in (("web1", "web"), ("edge1", "edge"), ("db1", "db")):
            operator.join(host, operator.token(groups=[group]))
        self._operator = OperatorEndpoints(core)

    def applies_or_complains(self, document: str) -> None:
        """To plan writes nothing; what can be planned, and nothing else, is applied."""
        before = contents(self.core)
        planned = self._answer("plan", document=document)
        assert contents(self.core) == before
        applied = self._answer("apply", document=document, base_revision=None)
        assert planned.keys() == applied.keys()
        if "error" in applied:
            assert contents(self.core) == before
        else:
            self._holds(document)

    def _holds(self, document: str) -> None:
        """It is in force: nothing is left to do, every host can work on it, it is exported."""
        assert self._answer("plan", document=document)["value"]["changes"] == []
        view = self.core.store.view("shop")
        for service in registry.services().values():
            for host in view.hosts:
                service.compile(view, host)
        exported = self._answer("deployment_export", name="shop")["value"]
        assert self._answer("plan", document=exported)["value"]["changes"] == []

    def _answer(self, method: str, **arguments: Any) -> dict[str, Any]:
        answer: dict[str, Any] = getattr(self._operator, method)({}, **arguments)
        json.dumps(answer)
        if "error" in answer:
            assert answer["error"]["code"] != CnsmoError.code, answer
        return answer


@pytest.fixture
def scene(core: Core, operator: Operator) -> Scene:
    return Scene(core, operator)


def parses_or_complains(document: str) -> None:
    """Anything else that parse() raises fails the test by itself."""
    complaint: InvalidDocument | None = None
    try:
        assert isinstance(parse(document), Document)
    except InvalidDocument as exc:
        complaint = exc
    if complaint is not None:
        lines = str(complaint).split("\n")
        assert all(line and line.isprintable() for line in lines), lines
        assert len(complaint.details["problems"]) == len(lines)


# as text


@fuzzed
@given(document=text)
@example(document="\ud800")
@example(document="\x00")
@example(document="- " * 2000)
@example(document="{" * 5000)
@example(document="? " * 3000)
@example(document="%YAML 3.0\n---\na: b")
@example(document="%TAG ! tag:x,2000:\n---\n!a b")
@example(document="\ufeffdeployment: shop")
@example(document="deployment: shop\n...\n---\n")
@example(document="deployment: !!int shop")
@example(document="deployment: 1.0e999")
@example(document="&a [*a]")
def test_no_text_makes_the_parser_fail(document: str) -> None:
    parses_or_complains(document)


@fuzzed
@given(data=st.data())
def test_no_mutation_of_a_right_document_makes_the_parser_fail(data: st.DataObject) -> None:
    document = SHOP
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(document)))
        cut = data.draw(st.integers(0, 5))
        put = data.draw(st.sampled_from([*"{}[]:,&*!|>'\"%@`#-?\n\t ~", *SCALARS]) | text)
        document = document[:at] + put + document[at + cut :]
    parses_or_complains(document)


@fuzzed
@given(document=json_value)
def test_no_structure_makes_the_parser_fail(document: Any) -> None:
    parses_or_complains(json.dumps(document))


@fuzzed
@given(levels=st.integers(1, 200), width=st.integers(1, 50), anchor=st.text(max_size=9))
def test_no_aliases_expand(levels: int, width: int, anchor: str) -> None:
    """The billion laughs: each level refers to the one before it, many times."""
    laughs = ["deployment: shop", "a0: &a0 [x]"]
    for level in range(1, levels + 1):
        inside = ",".join([f"*a{level - 1}"] * width)
        laughs.append(f"a{level}: &a{level} [{inside}, {json.dumps(anchor)}]")
    with pytest.raises(InvalidDocument, match=r"YAML aliases are not accepted|not YAML"):
        parse("\n".join(laughs))


# as a whole


def test_what_is_mutated_here_is_right(scene: Scene) -> None:
    scene.applies_or_complains(SHOP)
    assert len(list(scene.core.store.view("shop").rows("loadbalancer"))) == 1


@fuzzed
@given(document=mutations(RIGHT))
def test_no_mutated_document_does_harm(scene: Scene, document: Any) -> None:
    scene.applies_or_complains(json.dumps(document))


@fuzzed
@given(document=damaged(SHOP.encode()))
def test_no_damaged_document_does_harm(scene: Scene, document: bytes) -> None:
    scene.applies_or_complains(document.decode("utf-8", "surrogateescape"))


@fuzzed
@given(data=st.data(), value=json_value)
def test_no_wrong_value_does_harm(scene: Scene, data: st.DataObject, value: Any) -> None:
    """In each place of a specification, once."""
    service = data.draw(st.sampled_from(sorted(registry.services())))
    fields = registry.service(service).Spec.model_fields
    field = data.draw(st.sampled_from(sorted(it.alias or name for name, it in fields.items())))
    (instance,) = RIGHT[service]
    spec = {**RIGHT[service][instance], field: value}
    scene.applies_or_complains(json.dumps({**RIGHT, service: {instance: spec}}))


@pytest.mark.parametrize("depth", DEPTHS)
def test_depth_does_no_harm(scene: Scene, depth: int) -> None:
    scene.applies_or_complains(json.dumps({**RIGHT, "vpn": {"backbone": deep(depth)}}))
