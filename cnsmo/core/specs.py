# SPDX-License-Identifier: Apache-2.0
"""From a parsed document to valid specs: every mistake becomes one problem with line and remedy."""

from __future__ import annotations

import difflib
import inspect
import typing
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from cnsmo.model.document import Document
from cnsmo.model.messages import Problem
from cnsmo.services import registry


def validate(document: Document) -> tuple[dict[tuple[str, str], dict[str, Any]], list[Problem]]:
    """The instances' specs, completed with their defaults, by service and name; and all mistakes.

    Mistakes that need other instances or the hosts are found by the services' own ``check``.
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    problems: list[Problem] = []
    installed = registry.services()
    for service, instances in document.sections.items():
        if service not in installed:
            remedy = _did_you_mean(service, ["deployment", *installed])
            problems.append(document.problem((service,), "no such service", remedy))
            continue
        for name, raw in instances.items():
            try:
                spec = installed[service].Spec.model_validate(raw)
            except ValidationError as exc:
                model = installed[service].Spec
                problems += [_problem(document, service, name, model, e) for e in exc.errors()]
                continue
            found[service, name] = spec.model_dump(mode="json")
            problems += _driver(document, service, name, spec)
    return found, problems


def _driver(document: Document, service: str, name: str, spec: BaseModel) -> list[Problem]:
    driver = getattr(spec, "driver", None)
    names = registry.driver_names(service)
    if driver is None or driver in names:
        return []
    path = (service, name, "driver")
    return [document.problem(path, f"no driver {driver!r}", _did_you_mean(driver, names))]


def _problem(
    document: Document, service: str, name: str, model: type[BaseModel], error: ErrorDetails
) -> Problem:
    inner = error["loc"]
    path = (service, name, *inner)
    while len(path) > 2 and path not in document.lines and error["type"] != "missing":
        path = path[:-1]
    match error["type"]:
        case "extra_forbidden":
            known = _keys(model, inner[:-1])
            remedy = _did_you_mean(str(inner[-1]), known)
            return document.problem((service, name, *inner), "unknown key", remedy)
        case "missing":
            return document.problem(path, "this key is needed")
        case "value_error":
            return document.problem(path, error["msg"].removeprefix("Value error, "))
        case _:
            shown = ascii(error["input"])
            shown = shown if len(shown) <= 60 else shown[:57] + "..."
            return document.problem(path, f"{shown}: {error['msg'][0].lower()}{error['msg'][1:]}")


def _keys(model: type[BaseModel], path: tuple[str | int, ...]) -> list[str]:
    """The keys that a nested model knows; path as pydantic reports it."""
    for part in path:
        if isinstance(part, int) or part not in model.model_fields:
            continue
        inner = next(_models(model.model_fields[part].annotation), None)
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def _models(annotation: Any) -> typing.Iterator[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models(argument)


def _did_you_mean(word: str, known: typing.Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(word, names, n=1)
    listed = "known: " + ", ".join(sorted(names))
    return f"did you mean {close[0]!r}? {listed}" if close else listed
