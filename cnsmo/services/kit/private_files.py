# SPDX-License-Identifier: Apache-2.0
"""Files of a driver's own: 0600 in a 0700 directory, each replaced as a whole, and on the disk."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from cnsmo.files import write_file
from cnsmo.model.errors import DriverError


def ensure_directory(path: Path) -> None:
    """Make a directory that only its owner may enter.

    :raises DriverError: when it cannot be made.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.stat().st_mode & 0o777 != 0o700:
            path.chmod(0o700)
    except OSError as exc:
        raise DriverError(f"{path} cannot be made: {exc.strerror}") from exc


def write_private(path: Path, text: str, lasting: bool = True) -> None:
    """Replace a file's content in one step; after a crash it holds the old text or the new one.

    lasting: False where that need not hold for a crash of the machine.

    :raises DriverError: when it cannot be written (disk full); the old content stands then.
    """
    ensure_directory(path.parent)
    try:
        write_file(path, text, lasting=lasting)
    except OSError as exc:
        raise DriverError(f"{path} cannot be written: {exc.strerror}") from exc


def read_private(path: Path) -> str | None:
    """A file's text; None when there is no such file.

    :raises DriverError: when it is there and cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as exc:
        raise DriverError(f"{path} cannot be read: {exc}") from exc


def read_tree(path: Path) -> dict[Path, bytes]:
    """All plain files of a directory, by path; none when there is no such directory.

    :raises DriverError: when one cannot be read.
    """
    try:
        return {it: it.read_bytes() for it in path.rglob("*") if it.is_file()}
    except OSError as exc:
        raise DriverError(f"{path} cannot be read: {exc}") from exc


def write_tree(files: Mapping[Path, bytes]) -> None:
    """Write files back that read_tree() read.

    :raises DriverError: when one cannot be written.
    """
    for path, content in files.items():
        ensure_directory(path.parent)
        try:
            path.touch(mode=0o600)
            path.chmod(0o600)  # whatever the umask takes away
            path.write_bytes(content)
        except OSError as exc:
            raise DriverError(f"{path} cannot be written: {exc.strerror}") from exc


def remove_tree(path: Path) -> None:
    """Delete a directory with all that is in it; fine when it is gone already.

    :raises DriverError: when something in it cannot be deleted.
    """
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except OSError as exc:
        raise DriverError(f"{path} cannot be deleted: {exc}") from exc
