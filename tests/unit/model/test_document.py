# SPDX-License-Identifier: Apache-2.0
"""The parser of deployment documents: what it takes; that nothing upsets it is in tests/fuzz."""

import tracemalloc

import pytest

from cnsmo.model.document import MAX_CHARACTERS, parse
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
