# SPDX-License-Identifier: Apache-2.0
"""What hosts say that they saw, as operators' commands read it: shapes, and bounds of numbers.

A host may lie, but not in a form that those commands cannot show. What else a driver tells of a
unit is kept as it is.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cnsmo.model.observation import LEFT_OUT
from cnsmo.services.base import NetworkService

Number = Annotated[float, Field(ge=-1e15, le=1e15)]
"""Seconds, bytes, packets; 1e15 bytes are 30 years of 1 Gbit/s."""
Count = Annotated[int, Field(ge=0, le=2**64)]


class Seen(BaseModel):
    """Base of what is told of a unit, and of its parts."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)


def shaped(service: NetworkService, observation: dict[str, Any] | None) -> dict[str, Any] | None:
    """An observation without the details that are not what the service tells of its units.

    What fits is given back as it is.
    """
    if observation is None or service.Detail is None:
        return observation
    wrong = [
        unit for unit, detail in observation.items() if not _fits(service.Detail, unit, detail)
    ]
    left = {LEFT_OUT: f"not what the service {service.name} tells of its units"}
    return {**observation, **dict.fromkeys(wrong, left)} if wrong else observation


def _fits(kind: type[BaseModel], unit: str, detail: Any) -> bool:
    if unit == LEFT_OUT:
        return isinstance(detail, str)
    try:
        kind.model_validate(detail)
    except ValidationError:
        return False
    return True
