# SPDX-License-Identifier: Apache-2.0
"""A plan in words: row by row what is added, changed and removed, and which hosts it touches."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from cnsmo.manage.cells import one_line
from cnsmo.manage.style import Style

if TYPE_CHECKING:
    from cnsmo.model.messages import Plan, RowChange

_SIGNS = {"add": ("+", "green"), "change": ("~", "yellow"), "remove": ("-", "red")}
ABSENT = object()
SHOWN = 8
"""Hosts that are named in one line."""
LINES = 20
"""Effects on a host that are shown, and things in a list."""


def told(plan: Plan, style: Style) -> Iterator[str]:
    """The lines of a plan for people."""
    for problem in plan.absent:
        yield style.paint(f"Means nobody now: {problem}", "yellow")
    for problem in plan.known:
        yield style.paint(f"Wrong already: {problem}", "yellow")
    if not plan.changes:
        yield f"{plan.deployment} is as the document says (revision {plan.base_revision})."
        return
    yield style.paint(f"{plan.deployment}, on revision {plan.base_revision}:", "bold")
    for change in plan.changes:
        sign, colour = _SIGNS[change.action]
        yield style.paint(f"  {sign} {change.kind} {change.name}", colour)
        yield from (f"      {line}" for line in _details(change))
    for effect in plan.effects:
        yield style.paint(f"  {_some(effect.hosts)}:", "bold")
        yield from (f"      {line}" for line in _cut(effect.lines))
    counts = [sum(change.action == action for change in plan.changes) for action in _SIGNS]
    yield f"{counts[0]} to add, {counts[1]} to change, {counts[2]} to remove; {_hosts(plan)}."


def difference(before: Any, after: Any) -> list[tuple[str, Any, Any]]:
    """The keys that differ, dotted, with the old and the new value; ABSENT where there is none."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        return [] if before == after else [("", before, after)]
    found = []
    for key in [*before, *(key for key in after if key not in before)]:
        for inner, old, new in difference(before.get(key, ABSENT), after.get(key, ABSENT)):
            found.append((f"{key}.{inner}" if inner else key, old, new))
    return found


def _details(change: RowChange) -> Iterator[str]:
    if change.action == "change":
        before, after = (
            _without_defaults(change.kind, body or {}) for body in (change.before, change.after)
        )
        for key, old, new in difference(change.before, change.after):
            if _is_long(old) or _is_long(new):
                yield from _compared(key, _items(before.get(key)), _items(after.get(key)))
            else:
                yield f"{key}: {_value(old)} -> {_value(new)}"
    elif change.action == "add":
        for key, value in _without_defaults(change.kind, change.after or {}).items():
            if _is_long(value):
                yield f"{key}:"
                yield from _cut(f"  - {item}" for item in _items(value))
            else:
                yield f"{key}: {_value(value)}"


def _is_long(value: Any) -> bool:
    """Whether it is a list of things that have keys, as rules: each gets a line."""
    return isinstance(value, list) and any(isinstance(item, dict) for item in value)


def _items(value: Any) -> list[str]:
    return [one_line(item) for item in value] if isinstance(value, list) else []


def _compared(key: str, old: list[str], new: list[str]) -> Iterator[str]:
    """The items that go and come, in their order; those around them are left out."""
    yield f"{key}:"
    yield from _cut(
        f"  {line}" for line in difflib.ndiff(old, new, charjunk=None) if line[0] in "+-"
    )


def _cut(lines: Iterable[str]) -> Iterator[str]:
    found = list(lines)
    yield from found[:LINES]
    if len(found) > LINES:
        yield f"  and {len(found) - LINES} more"


def _without_defaults(service: str, body: dict[str, Any]) -> dict[str, Any]:
    """A spec as the operator wrote it; whole where the service's plugin is not installed here."""
    from pydantic import ValidationError

    from cnsmo.model.errors import InvalidRequest
    from cnsmo.services import registry

    try:
        spec = registry.service(service).Spec.model_validate(body)
    except (InvalidRequest, ValidationError):
        return body
    return spec.model_dump(mode="json", exclude_defaults=True)


def _value(value: Any) -> str:
    if value is ABSENT:
        return "(none)"
    if isinstance(value, str):
        return value or '""'
    if isinstance(value, list) and all(isinstance(item, str | int) for item in value):
        return ", ".join(str(item) for item in value) or "(none)"
    return "(default)" if value is None else json.dumps(value, ensure_ascii=False)


def _hosts(plan: Plan) -> str:
    if not plan.hosts:
        return "no host is touched"
    many = len(plan.hosts) != 1
    return f"{len(plan.hosts)} host{'s are' if many else ' is'} touched: {_some(plan.hosts)}"


def _some(hosts: list[str]) -> str:
    rest = len(hosts) - SHOWN
    return ", ".join(hosts[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")
