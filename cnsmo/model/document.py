# SPDX-License-Identifier: Apache-2.0
"""The deployment document: YAML text to plain data, with the line of everything in it.

A subset of YAML 1.2's core schema: ``on`` and ``no`` are words, times are words, a key stands once,
aliases are refused (a document that expands is a trap), and size and depth have bounds.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from typing import Any, cast

import yaml

from cnsmo.model.errors import InvalidDocument
from cnsmo.model.messages import Problem
from cnsmo.model.names import check_label

MAX_CHARACTERS = 1_000_000
MAX_DEPTH = 20
MAX_PROBLEMS = 100
Path = tuple[str | int, ...]

_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(0|[1-9][0-9]*)\.[0-9]+([eE][-+]?[0-9]+)?")
_UNPRINTABLE = re.compile(
    "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufeff\uff00-\ufffd\U00010000-\U0010ffff]"
)
"""What YAML 1.2 (5.1, c-printable) does not take for text."""
_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}


@dataclasses.dataclass(frozen=True)
class Document:
    """A parsed document: the deployment it is for, and instances by service and name."""

    deployment: str
    sections: dict[str, dict[str, dict[str, Any]]]
    lines: dict[Path, tuple[int, int]]

    def problem(self, path: Path, message: str, remedy: str = "") -> Problem:
        """A mistake at a path; the line is that of the nearest thing that is there."""
        return _problem(self.lines, path, message, remedy)

    def located(self, problem: Problem) -> Problem:
        """A problem whose path is text (``vpn.backbone.cidr``), with its line added."""
        service, *inner = problem.path.split(".")
        path: Path = (service, *inner[:1], *(_part(text) for text in inner[1:]))
        line, column = _nearest(self.lines, path)
        return problem.model_copy(update={"line": line, "column": column})


def parse(text: str) -> Document:
    """Read a document's text.

    :raises InvalidDocument: with one problem per mistake.
    """
    if len(text) > MAX_CHARACTERS:
        raise _invalid(
            [
                Problem(
                    path="",
                    message=f"the document has {len(text):,} characters, "
                    f"at most {MAX_CHARACTERS:,} are read",
                    remedy="use groups and sets instead of single entries",
                )
            ]
        )
    reader = _Reader()
    data = reader.read(text)
    if reader.problems:
        raise _invalid(reader.problems)
    return _checked(data, reader)


def invalid(problems: list[Problem]) -> InvalidDocument:
    """The error that carries those problems, the first lines first."""
    return _invalid(sorted(problems, key=lambda problem: (problem.line or 0, problem.path)))


def _checked(data: Any, reader: _Reader) -> Document:
    lines, problems = reader.lines, []
    if not isinstance(data, dict):
        what = "empty" if data is None else "not a mapping"
        raise _invalid(
            [
                Problem(
                    path="",
                    line=lines[()][0] if lines else None,
                    message=f"the document is {what}",
                    remedy="begin with 'deployment: NAME'",
                )
            ]
        )
    name = data.pop("deployment", None)
    if isinstance(name, int | float) and not isinstance(name, bool):
        problems.append(
            _problem(lines, ("deployment",), f"{name} is a number, not a name", "put it in quotes")
        )
    elif not isinstance(name, str):
        problems.append(
            _problem(lines, ("deployment",), "a name is needed", "write 'deployment: NAME'")
        )
    else:
        problems += _label(lines, ("deployment",), name)
    for service, instances in data.items():
        if instances is None:
            data[service] = {}
        elif not isinstance(instances, dict):
            problems.append(
                _problem(
                    lines,
                    (service,),
                    "named instances are expected",
                    f"{_shown((service,))}: {{NAME: ...}}",
                )
            )
        else:
            for instance, spec in instances.items():
                problems += _label(lines, (service, instance), instance)
                if spec is not None and not isinstance(spec, dict):
                    problems.append(
                        _problem(lines, (service, instance), "keys and values are expected")
                    )
            data[service] = {key: {} if spec is None else spec for key, spec in instances.items()}
    if problems:
        raise invalid(problems)
    return Document(str(name), data, lines)


def _label(lines: dict[Path, tuple[int, int]], path: Path, value: str) -> list[Problem]:
    try:
        check_label(value)
    except ValueError as exc:
        return [_problem(lines, path, str(exc))]
    return []


class _Reader:
    """Turns YAML's nodes into data, noting lines and mistakes on the way."""

    def __init__(self) -> None:
        self.lines: dict[Path, tuple[int, int]] = {}
        self.problems: list[Problem] = []

    def read(self, text: str) -> Any:
        try:
            self._refuse(yaml.parse(text, Loader=yaml.CSafeLoader))
            if self.problems:
                return None
            node = yaml.compose(text, Loader=yaml.CSafeLoader)
        except UnicodeEncodeError as exc:
            self.problems.append(_not_text(text, exc.start))
            return None
        except yaml.YAMLError as exc:
            self.problems.append(_syntax(text, exc))
            return None
        return None if node is None else self._value(node, ())

    def _refuse(self, events: Iterable[Any]) -> None:
        """Look at YAML's events as they come, and at no more of them after the first mistake."""
        depth = documents = 0
        for event in events:
            documents += isinstance(event, yaml.DocumentStartEvent)
            if documents > 1:
                self._at(
                    event.start_mark,
                    "a second document begins here",
                    "one file holds one document",
                )
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent):
                self._at(event.start_mark, "YAML aliases are not accepted", "write it out")
            if depth > MAX_DEPTH:
                self._at(event.start_mark, f"nested deeper than {MAX_DEPTH} levels")
            tag = getattr(event, "tag", None)
            if tag is not None and tag != "!":
                self._at(event.start_mark, "YAML tags are not accepted", "leave the tag out")
            if self.problems:
                return

    def _value(self, node: yaml.Node, path: Path) -> Any:
        self.lines[path] = (node.start_mark.line + 1, node.start_mark.column + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*path, i)) for i, item in enumerate(node.value)]
        return _scalar(cast("yaml.ScalarNode", node))

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._at(key_node.start_mark, "a key must be a word")
                continue
            key = key_node.value
            inner = (*path, key)
            if key in found:
                first = self.lines[inner][0]
                self._at(
                    key_node.start_mark,
                    f"the key {ascii(key)} stands twice, first in line {first}",
                    "join the two",
                    inner,
                )
                continue
            found[key] = self._value(value_node, inner)
            self.lines[inner] = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
        return found

    def _at(self, mark: Any, message: str, remedy: str = "", path: Path = ()) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(
                Problem(
                    path=_shown(path),
                    line=mark.line + 1,
                    column=mark.column + 1,
                    message=message,
                    remedy=remedy,
                )
            )


def _scalar(node: yaml.ScalarNode) -> Any:
    text: str = node.value
    if node.style:  # quoted, or a block; "" or None for a plain one
        return text
    if text.lower() in _WORDS and text in (text.lower(), text.capitalize(), text.upper()):
        return _WORDS[text.lower()]
    if _INT.fullmatch(text) and len(text) < 20:
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def _not_text(text: str, position: int) -> Problem:
    return Problem(
        path="",
        line=text.count("\n", 0, position) + 1,
        message=f"{ascii(text[position])} is not a character of a text",
        remedy="take it out, and save the file as UTF-8",
    )


def _syntax(text: str, exc: yaml.YAMLError) -> Problem:
    if isinstance(exc, yaml.reader.ReaderError):
        found = _UNPRINTABLE.search(text)
        return _not_text(text, found.start() if found else 0)
    mark = getattr(exc, "problem_mark", None) or getattr(exc, "context_mark", None)
    parts = (getattr(exc, "context", None), getattr(exc, "problem", None))
    said = ", ".join(part for part in parts if part)
    if not said:
        said = str(exc).splitlines()[0]
    return Problem(
        path="",
        line=mark.line + 1 if mark else None,
        column=mark.column + 1 if mark else None,
        message=f"not YAML: {ascii(said)[1:-1]}",
        remedy="check indentation, quotes and colons there",
    )


def _invalid(problems: list[Problem]) -> InvalidDocument:
    shown = problems[:MAX_PROBLEMS]
    text = "\n".join(str(problem) for problem in shown)
    return InvalidDocument(text, problems=[problem.model_dump() for problem in shown])


def _problem(
    lines: dict[Path, tuple[int, int]], path: Path, message: str, remedy: str = ""
) -> Problem:
    line, column = _nearest(lines, path)
    return Problem(path=_shown(path), line=line, column=column, message=message, remedy=remedy)


def _part(text: str) -> str | int:
    return int(text) if text.isdecimal() else text


def _nearest(lines: dict[Path, tuple[int, int]], path: Path) -> tuple[int | None, int | None]:
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, (None, None))


def _shown(path: Path) -> str:
    return ".".join(ascii(part)[1:-1] if isinstance(part, str) else str(part) for part in path)
