# SPDX-License-Identifier: Apache-2.0
"""What stands in a table's cell: for people in words, for programs (-f json, csv, ...) as data."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable
from typing import Any

from cliff.columns import FormattableColumn

from cnsmo.manage.style import Style

NONE = "-"
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def age(seconds: float | None) -> str:
    """An age for people: ``0.4 s``, ``12 s``, ``3 min``, ``5 h``, ``9 d``."""
    if seconds is None:
        return NONE
    if seconds < 1:
        return f"{seconds:.1f} s"
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds // 86400)} d"


def size(count: int | None) -> str:
    """A number of bytes for people: ``999 B``, ``1.2 MiB``."""
    if count is None:
        return NONE
    value, unit = float(count), _UNITS[0]
    for unit in _UNITS:
        if value < 1024 or unit == _UNITS[-1]:
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def one_line(value: Any) -> str:
    """A value in one line of YAML, as an operator writes it: what stands alone is no list."""
    import yaml

    text = yaml.safe_dump(_alone(value), default_flow_style=True, sort_keys=False, width=10**6)
    return text.removesuffix("...\n").strip()


def _alone(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _alone(item) for key, item in value.items()}
    if isinstance(value, list):
        items = [_alone(item) for item in value]
        return items[0] if len(items) == 1 else items
    return plain_address(value) if isinstance(value, str) else value


def plain_address(text: str) -> str:
    """A network of one address as that address."""
    address, _slash, length = text.partition("/")
    whole = {"32": ".", "128": ":"}.get(length)
    return address if whole and whole in address else text


def local_time(moment: datetime.datetime) -> str:
    """A moment in the reader's time zone."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


class Cell(FormattableColumn[Any]):
    """Any value; nothing is shown as a dash."""

    def human_readable(self) -> str:
        return NONE if self._value in (None, "", [], {}) else str(self._value)


class Age(Cell):
    """Seconds; for people ``12 s ago``."""

    def human_readable(self) -> str:
        return NONE if self._value is None else f"{age(self._value)} ago"

    def machine_readable(self) -> Any:
        return None if self._value is None else round(self._value, 1)


class Size(Cell):
    """Bytes."""

    def human_readable(self) -> str:
        return size(self._value)


class Moment(Cell):
    """A time: the reader's own for people, ISO 8601 in UTC for programs."""

    def human_readable(self) -> str:
        return NONE if self._value is None else local_time(self._value)

    def machine_readable(self) -> Any:
        if self._value is None:
            return None
        return self._value.astimezone(datetime.UTC).isoformat(timespec="seconds")


class Names(Cell):
    """A list of words; one per line when ``lines`` is set."""

    def __init__(self, value: Iterable[str], lines: bool = False) -> None:
        super().__init__(list(value))
        self._between = "\n" if lines else ", "

    def human_readable(self) -> str:
        return self._between.join(self._value) or NONE


class Tree(Cell):
    """Nested data: YAML for people."""

    def human_readable(self) -> str:
        import yaml

        if not self._value:
            return NONE
        return yaml.safe_dump(self._value, sort_keys=False, allow_unicode=True).rstrip()


class State(Cell):
    """An agent's state, in its colour on a terminal."""

    def __init__(self, value: str, style: Style) -> None:
        super().__init__(value)
        self._style = style

    def human_readable(self) -> str:
        return self._style.state(str(self._value))


def shown(value: Any) -> Any:
    """A cell's value for people: a dash for nothing, yes and no for truth."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return NONE if value is None else value


def plain(value: Any) -> Any:
    """A cell's value for a line of text (-f csv, -f value): lists are joined, nothing is empty."""
    if isinstance(value, FormattableColumn):
        value = value.machine_readable()
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ",".join(value)
    if isinstance(value, list | dict):
        return json.dumps(value, separators=(",", ":"))
    return value
