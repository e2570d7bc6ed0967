# SPDX-License-Identifier: Apache-2.0
"""Runs where cloud-init's code is: renders, parses and checks user-data as it does on a VM."""

import json
import logging
import sys
from typing import Any

import yaml
from cloudinit.config.schema import SchemaValidationError, validate_cloudconfig_schema
from cloudinit.handlers.jinja_template import render_jinja_payload

from cloudinit import version

WARNINGS: list[str] = []


class Keep(logging.Handler):
    """What cloud-init warns of."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            WARNINGS.append(record.getMessage())


def read(text: str, metadata: dict[str, str]) -> dict[str, Any]:
    instance = {"v1": {"platform": "openstack"}, "ds": {"meta_data": {"meta": metadata}}}
    if text.startswith("## template: jinja"):
        text = render_jinja_payload(text, "user-data", instance) or ""
    config, problems = yaml.safe_load(text), []
    try:
        validate_cloudconfig_schema(config, strict=True)
    except SchemaValidationError as exc:
        problems = [str(exc)]
    return {"text": text, "config": config, "problems": problems, "warnings": WARNINGS[:]}


def main() -> None:
    logging.getLogger().addHandler(Keep())
    for line in sys.stdin:
        WARNINGS.clear()
        question = json.loads(line)
        answer = read(**question) if question else {"version": version.version_string()}
        print(json.dumps(answer), flush=True)


main()
