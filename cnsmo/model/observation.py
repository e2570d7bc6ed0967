# SPDX-License-Identifier: Apache-2.0
"""How much of what a driver saw is kept, and what stands in the place of the rest."""

from __future__ import annotations

import json
from typing import Any

MAX_OBSERVATION = 1_000_000
"""Characters of an observation, as JSON, that the core keeps: some thousand peers of one host."""
LEFT_OUT = "left_out"
"""Key under which it is said what is missing; no unit can have this name."""


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


def _size(unit: str, detail: Any) -> int:
    """Characters that a unit takes, with all that stands around it."""
    return len(json.dumps(unit)) + len(": ") + len(json.dumps(detail)) + len(", ")
