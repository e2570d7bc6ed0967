# SPDX-License-Identifier: Apache-2.0
"""What validation found wrong, in words for the person who wrote it."""

from __future__ import annotations

from pydantic import ValidationError
from pydantic_core import ErrorDetails

MOST = 5
"""So many mistakes are told at once; of more, the number."""


def in_words(exc: ValidationError) -> str:
    """All that was found wrong, each with its place, on one line.

    Values that were sent are not repeated: this goes to logs and over the bus.
    """
    errors = exc.errors()
    found = ((".".join(map(str, error["loc"])), _plain(error)) for error in errors[:MOST])
    told = [f"{place}: {what}" if place else what for place, what in found]
    return "; ".join(told + [f"and {len(errors) - MOST} more"] * (len(errors) > MOST))


def _plain(error: ErrorDetails) -> str:
    match error["type"]:
        case "value_error" | "extra_forbidden":
            return worded(error)
        case _:
            return error["msg"]


def worded(error: ErrorDetails) -> str:
    """pydantic's finding as a person would say it."""
    context = error.get("ctx", {})
    shown = ascii(error["input"])
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    match error["type"]:
        case "value_error":
            return error["msg"].removeprefix("Value error, ")
        case "extra_forbidden":
            return "unknown key"
        case "greater_than_equal":
            return f"{shown} is too small: at least {context['ge']}"
        case "less_than_equal":
            return f"{shown} is too large: at most {context['le']}"
        case "enum" | "literal_error":
            return f"{shown} is none of {context['expected']}"
        case "bool_type" | "bool_parsing":
            return f"{shown} is neither true nor false"
        case "int_type" | "int_parsing" | "int_from_float":
            return f"{shown} is not a whole number"
        case "string_type":
            return f"{shown} is not a word (put it in quotes if it is meant as one)"
        case "too_short":
            return f"at least {context['min_length']} is needed"
        case "too_long":
            return f"at most {context['max_length']} can be given"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"{shown}: keys and values are expected"
        case "tuple_type" | "list_type":
            return f"{shown}: a list is expected"
        case _:
            return f"{shown}: {error['msg'][0].lower()}{error['msg'][1:]}"
