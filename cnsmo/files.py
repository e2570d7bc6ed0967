# SPDX-License-Identifier: Apache-2.0
"""Files that are whole or not there, last through a power cut, and are their owner's alone."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def write_file(path: Path, content: str | bytes, writer: str = "") -> None:
    """Replace a file's content in one step; mode 0600, its directory is made 0700 if need be.

    writer: tells processes apart that may write the same file at the same time.

    :raises OSError: when it cannot be written (disk full); the old content stands then.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = draft(path, writer)
    try:
        fresh.unlink(missing_ok=True)  # a crash may have left it
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with open(os.open(fresh, flags, 0o600), "wb") as file:
            os.fchmod(file.fileno(), 0o600)  # whatever the umask takes away
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        sync_folder(path.parent)
    except OSError:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise


def draft(path: Path, writer: str = "") -> Path:
    """Where write_file() begins; it stays there when the writer is killed."""
    return path.with_name(f"{path.name}{writer}.new")


def sync_folder(path: Path) -> None:
    """Make what was named in a directory last through a power cut."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
