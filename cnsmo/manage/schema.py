# SPDX-License-Identifier: Apache-2.0
"""cnsmo-manage schema: the JSON schema of the document, made from what validates it."""

from __future__ import annotations

import argparse
import json
from typing import Any

from cnsmo.manage.command import Command

_LABEL = {"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"}


class Schema(Command):
    """Print the JSON schema of the deployment document, for editors and checkers.

    It covers the services that are installed here. What needs the whole deployment to judge
    (overlapping networks, unknown groups) is checked by 'plan'.
    """

    examples = """
cnsmo-manage schema > deployment.schema.json
# in the first line of a document, for editors with a YAML language server:
#   # yaml-language-server: $schema=deployment.schema.json
"""

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        self.say(text())


def text() -> str:
    """The schema as it is published in doc/deployment.schema.json, without the last line end."""
    return json.dumps(schema(), indent=2)


def schema() -> dict[str, Any]:
    """The schema (JSON Schema 2020-12) of documents with the installed services."""
    from pydantic.json_schema import GenerateJsonSchema

    from cnsmo.services import registry

    class Generator(GenerateJsonSchema):
        """Knows of keys that take one value in place of a list of one."""

        def function_before_schema(self, schema: Any) -> Any:
            inner = super().function_before_schema(schema)
            if inner.get("type") == "array" and _takes_one(schema["function"]["function"]):
                return {"anyOf": [inner["items"], inner]}
            return inner

    definitions: dict[str, Any] = {}
    sections: dict[str, Any] = {}
    for name, service in registry.services().items():
        spec = service.Spec.model_json_schema(
            ref_template=f"#/$defs/{name}.{{model}}", schema_generator=Generator
        )
        inner = {f"{name}.{key}": value for key, value in spec.pop("$defs", {}).items()}
        definitions |= inner | {name: spec}
        sections[name] = {
            "description": (service.__doc__ or "").strip().split("\n")[0],
            "type": ["object", "null"],
            "propertyNames": _LABEL,
            "additionalProperties": {"$ref": f"#/$defs/{name}"},
        }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "CNSMO deployment",
        "description": "One document per deployment; sections are services, entries are instances.",
        "type": "object",
        "required": ["deployment"],
        "additionalProperties": False,
        "properties": {
            "deployment": {"description": "The deployment's name.", **_LABEL},
            **sections,
        },
        "$defs": definitions,
    }


def _takes_one(validator: Any) -> bool:
    """Whether a before-validator makes a list of a single word; asked by trying."""
    try:
        return bool(validator("one") == ["one"])
    except Exception:  # noqa: BLE001  # whatever a validator raises: it does not take it
        return False
