# SPDX-License-Identifier: Apache-2.0
"""A disk without room."""

import errno
from pathlib import Path


def fill(disk: Path) -> Path:
    """A file that takes all the room that is left."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 512)
        except OSError as exc:
            if exc.errno != errno.ENOSPC:
                raise
    return filler
