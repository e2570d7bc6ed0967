# SPDX-License-Identifier: Apache-2.0
"""Small files that say what was made; whole or not there, whenever the writer is killed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from cnsmo.lab.errors import LabError


def write(path: Path, body: dict[str, Any]) -> None:
    """Put body there in one step; on the disk when this returns."""
    draft = path.with_name(f"{path.name}.new")
    with open(draft, "w", encoding="utf-8") as file:
        json.dump(body, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


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
