# SPDX-License-Identifier: Apache-2.0
"""Small files that say what was made; whole or not there, whenever the writer is killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cnsmo.files import write_file
from cnsmo.lab.errors import LabError


def write(path: Path, body: dict[str, Any]) -> None:
    """Put body there in one step; on the disk when this returns."""
    write_file(path, json.dumps(body, indent=1))


def read(path: Path) -> dict[str, Any] | None:
    """What is there, or None.

    :raises LabError: when it is nothing that `write` wrote.
    """
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as exc:
        raise LabError(f"{path} is damaged ({exc}): delete it, and what `ip netns` shows") from exc
    if not isinstance(body, dict):
        raise LabError(f"{path} is no record of a lab: delete it, and what `ip netns` shows")
    return body
