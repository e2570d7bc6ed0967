# SPDX-License-Identifier: Apache-2.0
"""Files that are whole or not there, last through a power cut, and are their owner's alone.

All goes by descriptors: what somebody else puts in a file's or a directory's place meanwhile is
neither written to nor given away.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

PRIVATE = 0o600
OTHERS = 0o077
TRIES = 100
"""To begin a draft while others begin theirs."""
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
KEEP = (-1, -1)
"""User and group: as they are."""


class OpenToOthers(OSError):
    """A file of secrets that others than its owner may read or write."""


def write_file(path: Path, content: str | bytes, writer: str = "", lasting: bool = True) -> None:
    """Replace a file's content in one step; mode 0600, its directory is made 0700 if need be.

    Processes that write the same file at the same time take turns. writer: lets one have a draft of
    its own. lasting: also through a power cut, for which the disk is waited for.

    :raises OSError: when it cannot be written (disk full); the old content stands then.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with folder(path.parent) as inside:
        write_in(inside, path.name, content, draft(path, writer).name, lasting=lasting)


def write_in(
    inside: int,
    name: str,
    content: str | bytes,
    fresh: str = "",
    mode: int = PRIVATE,
    owner: tuple[int, int] = KEEP,
    lasting: bool = True,
) -> None:
    """The same in a directory that is open already; owner: who gets it, before it is in place.

    :raises OSError: as write_file().
    """
    fresh = fresh or draft(Path(name)).name
    with open(_begun(inside, fresh), "wb") as file:
        try:
            if owner != KEEP:  # a unit without the right to it may not even ask for nothing
                os.fchown(file.fileno(), *owner)
            os.fchmod(file.fileno(), mode)  # whatever the umask takes away
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            if lasting:
                os.fsync(file.fileno())
            os.replace(fresh, name, src_dir_fd=inside, dst_dir_fd=inside)
            if lasting:
                os.fsync(inside)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(fresh, dir_fd=inside)
            raise


def read_secret(path: Path) -> str:
    """The text of a file that only its owner may read.

    :raises OpenToOthers: when others may.
    :raises OSError: when it cannot be read.
    """
    with open(path, encoding="utf-8") as file:
        if os.fstat(file.fileno()).st_mode & OTHERS:
            raise OpenToOthers(errno.EACCES, "others than its owner may read it", str(path))
        return file.read()


def draft(path: Path, writer: str = "") -> Path:
    """Where write_file() begins; it stays there when the writer is killed."""
    return path.with_name(f"{path.name}{writer}.new")


def sync_file(path: Path) -> None:
    """Make what was written to a file last through a power cut."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Make what was named in a directory last through a power cut."""
    with folder(path) as inside:
        os.fsync(inside)


@contextlib.contextmanager
def folder(path: Path) -> Iterator[int]:
    """A directory, open."""
    found = os.open(path, FOLDER)
    try:
        yield found
    finally:
        os.close(found)


@contextlib.contextmanager
def folder_below(root: Path, path: Path) -> Iterator[int]:
    """The directory ``path`` below ``root``, open; nothing on the way may be a link.

    :raises OSError: when something is.
    """
    with contextlib.ExitStack() as stack:
        found = stack.enter_context(folder(root))
        for name in path.parts:
            found = os.open(name, FOLDER | os.O_NOFOLLOW, dir_fd=found)
            stack.callback(os.close, found)
        yield found


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Let one process at a time read, change and write a file: who else comes here waits."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with folder(path.parent) as inside:
        fcntl.flock(inside, fcntl.LOCK_EX)
        yield


def _begun(inside: int, fresh: str) -> int:
    """A draft that is empty, ours, and locked; one that a crash left is used again."""
    for _try in range(TRIES):
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            found = os.open(fresh, flags, PRIVATE, dir_fd=inside)
        except OSError as exc:
            if exc.errno not in (errno.ELOOP, errno.ENXIO):
                raise
            os.unlink(fresh, dir_fd=inside)  # a link, or a pipe: nothing of ours
            continue
        fcntl.flock(found, fcntl.LOCK_EX)
        if _is_ours(inside, fresh, found):
            os.ftruncate(found, 0)
            return found
        os.close(found)
    raise OSError(errno.EBUSY, "others keep beginning a draft there", fresh)


def _is_ours(inside: int, fresh: str, found: int) -> bool:
    """Whether what was opened is still the draft, and nobody else can have it open."""
    have = os.fstat(found)
    try:
        named = os.stat(fresh, dir_fd=inside, follow_symlinks=False)
    except FileNotFoundError:
        return False
    if (named.st_dev, named.st_ino) != (have.st_dev, have.st_ino):
        return False
    private = not have.st_mode & OTHERS and have.st_uid == os.geteuid() and have.st_nlink == 1
    if not (stat.S_ISREG(have.st_mode) and private):
        os.unlink(fresh, dir_fd=inside)
        return False
    return True
