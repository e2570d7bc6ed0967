# SPDX-License-Identifier: Apache-2.0
"""Whose a lab's name is: one link per name, from the name to the lab's directory.

A name is claimed before the first namespace is made, and released after the last is gone; so no
lab ever touches the namespaces of another one that bears the same name in another directory.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from cnsmo.model.errors import Conflict

CLAIMS = Path("/run/cnsmo-lab")
STATE = "lab.json"


def owner(name: str) -> Path | None:
    """The directory of the lab that has the name."""
    try:
        return Path(os.readlink(CLAIMS / name))
    except FileNotFoundError:
        return None


def claim(name: str, directory: Path) -> None:
    """Take the name.

    :raises Conflict: when another lab has it.
    """
    while True:
        CLAIMS.mkdir(mode=0o755, parents=True, exist_ok=True)
        try:
            (CLAIMS / name).symlink_to(directory)
            return
        except FileNotFoundError:  # the last lab went down this moment
            continue
        except FileExistsError:
            other = owner(name)
        if other == directory:
            return
        if other is not None and (other / STATE).exists():
            raise Conflict(
                f"a lab {name!r} is up already, in {other}: take another name, or that one down"
            )
        release(name, other)  # of a lab whose directory somebody deleted


def release(name: str, directory: Path | None) -> None:
    """Give the name back, when that directory has it."""
    if owner(name) == directory:
        (CLAIMS / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # others are left
            CLAIMS.rmdir()


def claims() -> dict[str, Path]:
    """All labs of this machine that are up, name to directory."""
    names = sorted(os.listdir(CLAIMS)) if CLAIMS.is_dir() else []
    return {name: where for name in names if (where := owner(name)) is not None}
