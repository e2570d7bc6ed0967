# SPDX-License-Identifier: Apache-2.0
"""A driver's own options (``driver_options``): checked at plan, and again where they are used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from cnsmo.model.errors import DriverError
from cnsmo.model.messages import Problem
from cnsmo.model.wording import in_words, worded

M = TypeVar("M", bound=BaseModel)


class NoOptions(BaseModel):
    """Of a driver without any."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def read_options(model: type[M], driver: str, given: Mapping[str, Any]) -> M:
    """The options of a driver, checked.

    :raises DriverError: naming every mistake.
    """
    try:
        return model.model_validate(dict(given))
    except ValidationError as exc:
        raise DriverError(
            f"driver_options of {driver}: {in_words(exc)}; it knows: {_known(model)}"
        ) from exc


def option_problems(
    model: type[BaseModel], driver: str, given: Mapping[str, Any], path: str
) -> list[Problem]:
    """What plan says of them; path: of the instance that they belong to."""
    try:
        model.model_validate(dict(given))
    except ValidationError as exc:
        return [
            Problem(
                path=".".join((path, "driver_options", *map(str, error["loc"]))),
                message=worded(error),
                remedy=f"driver_options of {driver}: {_known(model)}",
            )
            for error in exc.errors()
        ]
    return []


def _known(model: type[BaseModel]) -> str:
    return ", ".join(model.model_fields) or "none"
