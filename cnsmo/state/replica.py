# SPDX-License-Identifier: Apache-2.0
"""The agent's copy of its deployment's rows: in memory and on disk.

On disk: records of two JSON lines, header (format, checksum) and content, the first with all rows,
the others with those that changed since; each checksum covers those before it. Of thousands of rows
seldom more than a few are others: they are added to the file, which now and then is written anew,
atomically; both fsynced. A record that a crash cut short is none; a torn, foreign or future file is
set aside with a warning, never half believed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from oslo_log import log
from pydantic import BaseModel, ValidationError

from cnsmo.files import write_file
from cnsmo.model.errors import ReplicaDamaged
from cnsmo.model.resource import Changes, Row, View
from cnsmo.state.protocol import Copy, Record

LOG = log.getLogger(__name__)
FORMAT = "cnsmo-replica 1"
FEW = 100
"""So many rows may always be added to a file; more of them only while it has as many besides."""


class Content(BaseModel):
    """What a record holds: whose copy, and its rows."""

    deployment: str
    host_id: str
    revision: int
    rows: list[Row]


class Replica:
    """Rows of one deployment at one revision, for one host."""

    def __init__(self, path: Path, deployment: str, host_id: str) -> None:
        self.path = path
        self.deployment = deployment
        self.host_id = host_id
        self.saved_revision = 0
        self._copy = Copy.empty(deployment)
        self._file: _File | None = None
        """What is on disk, where changes can be added to it."""

    @property
    def revision(self) -> int:
        """Of all rows together."""
        return self._copy.view.revision

    def view(self) -> View:
        """The rows as everything is computed from them."""
        return self._copy.view

    def update(self, changes: Changes) -> bool:
        """Take in what changed. Old news is ignored unless it is a snapshot.

        :return: whether the replica is different now.
        """
        before, self._copy = self._copy, self._copy.taking(changes)
        return self._copy is not before

    def save(self) -> None:
        """Write to disk what is not there yet: whole or not at all, there after a power cut.

        :raises OSError: when the disk refuses (full, read-only); the old file is then still there.
        """
        file = self._file
        record = self._copy.record(whole=not (file and file.takes(len(self._copy.unsaved))))
        if file and not record.whole:
            self._file = file.add(self._content(record), len(record.rows))
        else:
            text, checksum = _record(self._content(record), "")
            write_file(self.path, text)
            spare = max(len(record.rows), FEW)
            self._file = _File(self.path, len(text.encode()), checksum, spare)
        self._copy = self._copy.saved()
        self.saved_revision = self.revision

    def load(self) -> bool:
        """Read it back from disk; a file that cannot be believed is set aside.

        :return: whether there was one to believe.
        """
        try:
            content = self._read()
        except FileNotFoundError:
            return False
        except ReplicaDamaged as exc:
            aside = self.path.with_suffix(".damaged")
            os.replace(self.path, aside)
            LOG.warning("%s; it is set aside as %s and fetched anew", exc, aside)
            return False
        records = (Record(it.revision, tuple(it.rows), whole=False) for it in content)
        self._file, self._copy = None, Copy.read(self.deployment, records)
        self.saved_revision = self.revision
        return True

    def _content(self, record: Record) -> str:
        return Content(
            deployment=self.deployment,
            host_id=self.host_id,
            revision=record.revision,
            rows=list(record.rows),
        ).model_dump_json()

    def _read(self) -> list[Content]:
        try:
            text = self.path.read_bytes()
        except FileNotFoundError:
            raise
        except OSError as exc:
            raise self._damaged(f"cannot be read: {exc.strerror}") from exc
        found: list[Content] = []
        checksum = ""
        for header, body in _pairs(text):
            try:
                checksum, content = self._record(header, body, checksum)
            except ReplicaDamaged:
                if not found:
                    raise
                LOG.warning("the replica %s ends in a record that is torn", self.path)
                break
            found.append(content)
        return found

    def _record(self, header_line: bytes, body: bytes, before: str) -> tuple[str, Content]:
        try:
            header = json.loads(header_line.decode())
            form, checksum = header["format"], header["sha256"]
            text = body.decode()
        except (UnicodeDecodeError, ValueError, KeyError, TypeError, RecursionError) as exc:
            raise self._damaged("has no readable header") from exc
        if form != FORMAT:
            raise self._damaged(f"has the format {ascii(form)}, expected is {FORMAT!r}")
        if _checksum(before, text) != checksum:
            raise self._damaged("is torn: its checksum does not match")
        try:
            content = Content.model_validate_json(text)
        except ValidationError as exc:
            raise self._damaged("does not hold what a replica holds") from exc
        if (content.deployment, content.host_id) != (self.deployment, self.host_id):
            raise self._damaged(f"belongs to {content.host_id} of {content.deployment}")
        return checksum, content

    def _damaged(self, why: str) -> ReplicaDamaged:
        return ReplicaDamaged(f"the replica {self.path} {why}")


@dataclasses.dataclass(frozen=True)
class _File:
    """A file that this process wrote: its length, its last checksum, how many rows it may take."""

    path: Path
    length: int
    checksum: str
    spare: int

    def takes(self, count: int) -> bool:
        """Whether rows can be added to it."""
        try:
            return count <= self.spare and self.path.lstat().st_size == self.length
        except OSError:
            return False

    def add(self, content: str, count: int) -> _File:
        """The file with one more record; where that fails it is as it was."""
        text, checksum = _record(content, self.checksum)
        added = text.encode()
        flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW
        with open(os.open(self.path, flags), "ab", buffering=0) as file:
            try:
                written = 0
                while written < len(added):
                    written += file.write(added[written:])
                os.fsync(file.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(self.length)
                raise
        length = self.length + len(added)
        return dataclasses.replace(
            self, length=length, checksum=checksum, spare=self.spare - max(count, 1)
        )


def _record(content: str, before: str) -> tuple[str, str]:
    """The lines of a record, and its checksum."""
    checksum = _checksum(before, content)
    header = json.dumps({"format": FORMAT, "sha256": checksum})
    return f"{header}\n{content}\n", checksum


def _pairs(text: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Header and content of each record; an empty file has one, which is empty."""
    lines = text.split(b"\n")
    if len(lines) > 1 and not lines[-1]:
        lines.pop()
    for at in range(0, max(len(lines), 1), 2):
        yield lines[at], b"".join(lines[at + 1 : at + 2])


def _checksum(before: str, text: str) -> str:
    return hashlib.sha256(f"{before}{text}".encode()).hexdigest()
