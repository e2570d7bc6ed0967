# SPDX-License-Identifier: Apache-2.0
"""Tables of the documentation that are made from the code's models."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

Schema = Mapping[str, Any]


def spec_table(model: type[BaseModel]) -> str:
    """A model's fields as a table: key, value, default, meaning."""
    schema = model.model_json_schema()
    lines = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for key, field in schema["properties"].items():
        default = _default(key, field, schema)
        meaning = field.get("description", "").replace("|", "\\|")
        lines.append(f"| `{key}` | {_value(field, schema)} | {default} | {meaning} |")
    return "\n".join(lines) + "\n"


def ability_table(able: Mapping[str, Iterable[str]], words: Iterable[str]) -> str:
    """What each driver can do, by name, of what can be asked for."""
    lines = [f"| | {' | '.join(f'`{name}`' for name in able)} |", "|---" * (len(able) + 1) + "|"]
    for word in words:
        cells = ("yes" if word in features else "" for features in able.values())
        lines.append(f"| {word} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _default(key: str, field: Schema, schema: Schema) -> str:
    if key in schema.get("required", ()):
        return "(needed)"
    default = field.get("default")
    if default in (None, [], {}):
        return "none"
    if isinstance(default, list):
        shown = (item if isinstance(item, str) else json.dumps(item) for item in default)
        return ", ".join(f"`{item}`" for item in shown)
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


def _value(field: Schema, schema: Schema) -> str:
    """What may be written, in words."""
    if "$ref" in field:
        return _value(schema["$defs"][field["$ref"].rpartition("/")[2]], schema)
    if "anyOf" in field:
        return " or ".join(_value(one, schema) for one in field["anyOf"] if one != {"type": "null"})
    if "enum" in field:
        return ", ".join(f"`{word}`" for word in field["enum"])
    match field.get("type"):
        case "integer":
            low, high = field.get("minimum"), field.get("maximum")
            return f"{low} to {high}" if low is not None else "number"
        case "array":
            most = f", at most {field['maxItems']}" if "maxItems" in field else ""
            return f"list{most}"
        case "boolean":
            return "`true`, `false`"
        case "object":
            return "keys and values"
        case "string":
            return "word"
    return "any"
