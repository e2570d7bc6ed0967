# SPDX-License-Identifier: Apache-2.0
"""From a parsed document to valid specs: every mistake becomes one problem with line and remedy."""

from __future__ import annotations

import inspect
import typing
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from cnsmo.model.document import Document
from cnsmo.model.messages import Problem
from cnsmo.model.suggest import did_you_mean
from cnsmo.model.wording import worded
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
            remedy = did_you_mean(service, ["deployment", *installed])
            problems.append(document.problem((service,), "no such service", remedy))
            continue
        for name, raw in instances.items():
            try:
                spec = installed[service].Spec.model_validate(raw)
            except ValidationError as exc:
                model = installed[service].Spec
                errors = _without_echoes(exc.errors())
                problems += [_problem(document, service, name, model, e) for e in errors]
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
    return [document.problem(path, f"no driver {driver!r}", did_you_mean(driver, names))]


def _without_echoes(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """A list whose entries are wrong is also said to be too short: that is no second mistake."""
    return [
        error
        for error in errors
        if error["type"] != "too_short"
        or not any(e["loc"][: len(error["loc"])] == error["loc"] for e in errors if e is not error)
    ]


def _problem(
    document: Document, service: str, name: str, model: type[BaseModel], error: ErrorDetails
) -> Problem:
    inner, context = error["loc"], error.get("ctx", {})
    path = _written(document, (service, name, *inner))
    match error["type"]:
        case "extra_forbidden":
            known = _keys(model, inner[:-1])
            remedy = did_you_mean(str(inner[-1]), known)
            return document.problem(path, "unknown key", remedy)
        case "missing":
            return document.problem((*path, inner[-1]), "this key is needed")
        case "mistake":
            return document.problem((*path, context["key"]), error["msg"], context["remedy"])
        case _:
            return document.problem(path, worded(error))


def _written(document: Document, path: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """As much of a path as was written; a single thing in a list's place has no index there."""
    found = path[:2]
    for part in path[2:]:
        if (*found, part) in document.lines:
            found = (*found, part)
        elif not isinstance(part, int):
            break
    return found


def _keys(model: type[BaseModel], path: tuple[str | int, ...]) -> list[str]:
    """The keys that a nested model knows; path as pydantic reports it."""
    for part in path:
        field = _fields(model).get(part) if isinstance(part, str) else None
        if field is None:
            continue
        inner = next(_models(field.annotation), None)
        if inner is None:
            return []
        model = inner
    return list(_fields(model))


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Its fields by the names that operators write."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _models(annotation: Any) -> typing.Iterator[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models(argument)
