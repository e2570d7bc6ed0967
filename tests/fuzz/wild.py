# SPDX-License-Identifier: Apache-2.0
"""What nobody meant: values of all kinds, and right ones with something wrong put in."""

import copy
from collections.abc import Callable, Collection, Iterator
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st

Test = TypeVar("Test", bound=Callable[..., None])
Place = tuple[Any, Any]
"""A mapping or a list, and the key or the index in it."""
NO_HANG = 20_000
"""Milliseconds that one example may take: some thousand times what it needs."""
DEPTHS = (30, 200, 300, 600)
"""Levels of nesting: around the bounds of documents, of pydantic (255), near Python's own."""

text = st.text(st.characters(exclude_categories=[])) | st.sampled_from(
    ["", "\0", "\ud800", "web1\n", "../..", "%s%n", "\u202e", "٣", "x" * 5000, "-", "web2", "all"]
)
number = (
    st.integers()
    | st.floats()
    | st.sampled_from([0, -1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 10**400, -0.0, 1e308])
)
leaf = st.none() | st.booleans() | number | text


def deep(depth: int) -> Any:
    """Mappings and lists in each other."""
    value: Any = 1
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


json_value = st.recursive(
    leaf,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
) | st.sampled_from(DEPTHS).map(deep)


def fuzzed(test: Test) -> Test:
    """As many examples as the profile says; none of them hangs."""
    return settings(deadline=NO_HANG)(test)


@st.composite
def mutations(draw: st.DrawFn, right: Any) -> Any:
    """A right value (mappings and lists) in which up to three places are wrong, missing or new."""
    value = copy.deepcopy(right)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(value))
        inside, key = draw(st.sampled_from(places)) if places else (value, None)
        match draw(st.sampled_from(["replace", "other", "remove", "add", "again"])):
            case "replace" if key is not None:
                inside[key] = draw(json_value)
            case "other" if key is not None:
                elsewhere, other = draw(st.sampled_from(list(_places(right))))
                inside[key] = copy.deepcopy(elsewhere[other])
            case "remove" if key is not None:
                del inside[key]
            case "add" if isinstance(inside, dict):
                inside[draw(text)] = draw(json_value)
            case "again" if isinstance(inside, list):
                inside += inside * draw(st.sampled_from([1, 2, 20]))
            case _:
                pass
    return value


@st.composite
def damaged(draw: st.DrawFn, right: bytes) -> bytes:
    """Right bytes with some changed, cut out, put in or doubled."""
    value = right
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(value)))
        until = at + draw(st.integers(0, 8))
        put = draw(st.binary(max_size=8) | text.map(_bytes) | st.just(value[at : at + 200]))
        value = value[:at] + put + value[until:]
    return value


def _bytes(value: str) -> bytes:
    return value.encode("utf-8", "surrogatepass")


def _places(value: Any, levels: int = 8) -> Iterator[Place]:
    """Not those far down in what was put in: they are too many, and nothing looks at them."""
    for key in _keys(value) if levels else ():
        yield value, key
        yield from _places(value[key], levels - 1)


def _keys(value: Any) -> Collection[Any]:
    if isinstance(value, dict):
        return list(value)
    return range(len(value)) if isinstance(value, list) else ()
