# SPDX-License-Identifier: Apache-2.0
"""What of that which a driver saw is kept, and what stands in the place of the rest."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from cnsmo.model.names import printable

MAX_OBSERVATION = 1_000_000
"""Characters of an observation, as JSON, that the core keeps: some thousand peers of one host."""
MAX_DEPTH = 20
"""Levels of a unit's detail; MariaDB keeps no JSON of more than 32, pydantic writes 255."""
LEFT_OUT = "left_out"
"""Key under which it is said what is missing; no unit can have this name."""


def sound(observation: dict[str, Any] | None) -> dict[str, Any] | None:
    """An observation (detail by unit) that everybody can read and every database can keep.

    Instead of details that are too deep, or no JSON text in UTF-8 (RFC 8259, 6 and 8.1: no NaN, no
    half of a surrogate pair), there is ``{"left_out": ...}``. What would play tricks on a terminal
    is a blank or a question mark. What is sound is given back as it is.
    """
    if observation is None:
        return None
    kept = _readable(observation)
    shown = _on_one_line(kept)
    return observation if shown == observation else shown


def _readable(observation: dict[str, Any]) -> dict[str, Any]:
    if _is_sound(observation):
        return observation
    if not _is_sound(list(observation)):
        return {LEFT_OUT: f"{len(observation)} units, not all of whose names are text"}
    left = {LEFT_OUT: f"no JSON text, or deeper than {MAX_DEPTH} levels"}
    return {unit: detail if _is_sound(detail) else left for unit, detail in observation.items()}


def bounded(
    observation: dict[str, Any] | None, most: int = MAX_OBSERVATION
) -> dict[str, Any] | None:
    """An observation (detail by unit) of at most so many characters.

    Instead of the largest units' details there is ``{"left_out": "... characters ..."}`` until it
    fits; where that is not enough, instead of all of them. What fits is given back as it is.
    """
    sizes = {unit: _size(unit, detail) for unit, detail in (observation or {}).items()}
    whole = total = sum(sizes.values())
    if observation is None or total <= most:
        return observation
    kept = dict(observation)
    for unit in sorted(sizes, key=lambda unit: -sizes[unit]):
        if total <= most:
            return kept
        size = len(json.dumps(observation[unit]))
        kept[unit] = {LEFT_OUT: f"{size:,} characters, where all units together may have {most:,}"}
        total += _size(unit, kept[unit]) - sizes[unit]
    if total <= most:
        return kept
    return {LEFT_OUT: f"{len(sizes)} units, {whole:,} characters; at most {most:,} are kept"}


def _is_sound(value: Any) -> bool:
    level, depth = [value], 0
    while level := [inner for outer in level for inner in _inside(outer)]:
        depth += 1
        if depth > MAX_DEPTH:
            return False
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:  # UnicodeEncodeError is one
        return False
    return True


def _on_one_line(value: Any) -> Any:
    """The same, with nothing but characters that can be printed in all of its texts."""
    if isinstance(value, dict):
        return {_on_one_line(key): _on_one_line(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_on_one_line(item) for item in value]
    if not isinstance(value, str) or value.isprintable():
        return value
    return printable(" ".join(value.split("\n")))


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _size(unit: str, detail: Any) -> int:
    """Characters that a unit takes, with all that stands around it."""
    return len(json.dumps(unit)) + len(": ") + len(json.dumps(detail)) + len(", ")
