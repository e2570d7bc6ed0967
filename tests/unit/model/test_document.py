# SPDX-License-Identifier: Apache-2.0
"""The parser of deployment documents: what it takes, and that nothing upsets it."""

import tracemalloc

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cnsmo.model.document import MAX_CHARACTERS, Document, parse
from cnsmo.model.errors import InvalidDocument
from cnsmo.model.messages import Problem

SHOP = """\
deployment: shop
# the mesh
vpn:
  backbone:
    cidr: [10.66.0.0/16, "fd66::/64"]
    driver_options: {on: no, off: 12:30, yes: 0x10, octal: 010, empty: ~, truth: true, f: 1.5}
  other:
firewall:
"""

anything = st.text(st.characters())


def test_a_document_becomes_sections_of_named_instances() -> None:
    document = parse(SHOP)
    assert document.deployment == "shop"
    assert list(document.sections) == ["vpn", "firewall"]
    assert list(document.sections["vpn"]) == ["backbone", "other"]
    assert document.sections["vpn"]["backbone"]["cidr"] == ["10.66.0.0/16", "fd66::/64"]
    assert document.sections["vpn"]["other"] == {}
    assert document.sections["firewall"] == {}


def test_words_are_words_and_numbers_are_numbers() -> None:
    options = parse(SHOP).sections["vpn"]["backbone"]["driver_options"]
    assert options == {
        "on": "no",
        "off": "12:30",
        "yes": "0x10",
        "octal": "010",
        "empty": None,
        "truth": True,
        "f": 1.5,
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"),
        ("No", "No"),
        ("YES", "YES"),
        ("TRUE", True),
        ("tRUE", "tRUE"),
        ("False", False),
        ("null", None),
        ("-7", -7),
        ("+7", 7),
        ("007", "007"),
        ("1e3", "1e3"),
        ("1.5e3", 1500.0),
        (".5", ".5"),
        (".inf", ".inf"),
        ("2026-11-22", "2026-11-22"),
        ("1_000", "1_000"),
        ("9" * 19, 10**19 - 1),
        ("9" * 20, "9" * 20),
        ("'7'", "7"),
        ('"true"', "true"),
        ("|\n      7\n", "7\n"),
        ("=", "="),
    ],
)
def test_a_scalar_means_what_it_looks_like(text: str, value: object) -> None:
    found = parse(f"deployment: shop\nvpn:\n  a:\n    key: {text}\n").sections["vpn"]["a"]["key"]
    assert (found, type(found)) == (value, type(value))


def test_a_merge_key_is_a_key_like_any_other() -> None:
    document = parse("deployment: shop\nvpn: {a: {<<: {cidr: x}}}")
    assert document.sections["vpn"]["a"] == {"<<": {"cidr": "x"}}


def test_every_thing_knows_its_line() -> None:
    document = parse(SHOP)
    assert document.lines["vpn", "backbone", "cidr"] == (5, 5)
    assert document.lines["vpn", "backbone", "cidr", 1] == (5, 26)
    assert document.problem(("vpn", "backbone", "mtu"), "x").line == 4
    assert document.problem(("dns",), "x").line == 1
    located = document.located(Problem(path="vpn.backbone.cidr", message="x"))
    assert (located.line, located.column) == (5, 5)


def test_a_problem_reads_as_a_sentence() -> None:
    problem = Problem(path="vpn.a", line=3, message="wrong", remedy="write it right")
    assert str(problem) == "line 3: vpn.a: wrong (write it right)"
    assert str(Problem(path="", message="wrong")) == "wrong"


def test_anchors_alone_are_harmless() -> None:
    assert parse("deployment: &name shop\n").deployment == "shop"


def test_the_largest_document_is_read_in_bounded_memory() -> None:
    deep = "deployment: shop\nx: " + "[" * 900_000
    assert len(deep) < MAX_CHARACTERS
    tracemalloc.start()
    with pytest.raises(InvalidDocument, match="line 2: nested deeper than 20 levels"):
        parse(deep)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000, "the first mistake ends the reading"


@settings(max_examples=300)
@given(text=anything)
@example(text="\ud800")
@example(text="\x00")
@example(text="- " * 2000)
@example(text="{" * 5000)
@example(text="? " * 3000)
@example(text="%YAML 3.0\n---\na: b")
@example(text="%TAG ! tag:x,2000:\n---\n!a b")
@example(text="\ufeffdeployment: shop")
@example(text="deployment: shop\n...\n---\n")
@example(text="deployment: !!int shop")
@example(text="deployment: 1.0e999")
@example(text="&a [*a]")
def test_no_text_makes_the_parser_fail(text: str) -> None:
    parses_or_complains(text)


@settings(max_examples=200)
@given(data=st.data())
def test_no_mutation_of_a_right_document_makes_the_parser_fail(data: st.DataObject) -> None:
    text = SHOP
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 5))
        put = data.draw(st.one_of(st.sampled_from(list("{}[]:,&*!|>'\"%@`#-?\n\t ~")), anything))
        text = text[:at] + put + text[at + cut :]
    parses_or_complains(text)


leaf = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5))
tree = st.recursive(
    leaf, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(leaf, inner))
)


@settings(max_examples=100)
@given(data=tree)
def test_no_structure_makes_the_parser_fail(data: object) -> None:
    parses_or_complains(yaml.safe_dump(data))


def parses_or_complains(text: str) -> None:
    """Anything else that parse() raises fails the test by itself."""
    complaint: InvalidDocument | None = None
    try:
        assert isinstance(parse(text), Document)
    except InvalidDocument as exc:
        complaint = exc
    if complaint is not None:
        lines = str(complaint).split("\n")
        assert all(line and line.isprintable() for line in lines), lines
        assert len(complaint.details["problems"]) == len(lines)
