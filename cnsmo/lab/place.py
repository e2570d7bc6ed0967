# SPDX-License-Identifier: Apache-2.0
"""Where labs are kept, and what they may be called."""

from __future__ import annotations

import os
import re
from pathlib import Path

from cnsmo.lab.rootless import keeper
from cnsmo.model.errors import InvalidRequest

NAME = re.compile(r"[a-z][a-z0-9]{0,14}")
"""No dash: ``<lab>-<vm>`` names a namespace, and has to be nobody else's."""

ROOT_BASE = Path("/var/lib/cnsmo-lab")
HIDDEN = Path("/run")
"""VMs have a /run of their own, and would not see a disk there."""


def base() -> Path:
    """The directory of this account's labs; inside a rootless lab, of the account outside."""
    if os.geteuid() == 0 and keeper() is None:
        return ROOT_BASE
    state = os.environ.get("XDG_STATE_HOME", "")
    return (Path(state) if state else Path.home() / ".local" / "state") / "cnsmo" / "lab"


def default_directory(name: str) -> Path:
    """Where a lab of this name goes, if nobody says otherwise."""
    return base() / name


def check(directory: Path) -> Path:
    """A directory that a lab may have, made absolute; it need not exist.

    :raises InvalidRequest: when its last part is no name for a lab, or VMs could not see it.
    """
    directory = directory.absolute()
    if not NAME.fullmatch(directory.name):
        raise InvalidRequest(
            f"{ascii(directory.name)} is no name for a lab: use 1 to 15 of a-z and 0-9, "
            "beginning with a letter"
        )
    if directory.resolve().is_relative_to(HIDDEN):
        raise InvalidRequest(f"VMs cannot see {directory}: take a directory outside {HIDDEN}")
    return directory
