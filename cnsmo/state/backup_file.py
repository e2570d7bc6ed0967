# SPDX-License-Identifier: Apache-2.0
"""The file that holds a deployment: lines of JSON. A head, a line for each record, an end.

The end has the SHA-256 of all lines before it, sealed with the key of the database that it comes
from: who alters the file without that key is found out. Nothing is held in memory but a line.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from cnsmo.model.errors import Conflict, InvalidRequest, NotFound
from cnsmo.state.vault import NotSealed, Vault

FORMAT = "cnsmo-backup 1"
PURPOSE = "backup"
"""What the seal of a file is for."""
Record = tuple[str, dict[str, Any]]
"""The table, and the values of a row."""


class Head(BaseModel):
    """What a file says of itself. ``schema``, ``release``, ``database``: it was made from."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    format: str = FORMAT
    deployment: str
    revision: int
    schema_version: str
    release: str
    database: str
    made_at: datetime.datetime


class End(BaseModel):
    """How many records there are; the digest of all lines before, and that digest sealed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    records: int
    sha256: str
    seal: str


class BackupWriter:
    """Writes a file that is not there yet; a context manager that leaves it whole or not at all."""

    def __init__(self, path: Path, vault: Vault) -> None:
        self._path = path
        self._vault = vault
        self._digest = hashlib.sha256()
        self.records = 0

    def __enter__(self) -> BackupWriter:
        """:raises Conflict: when there is a file of that name.
        :raises InvalidRequest: when it cannot be made.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        try:
            handle = os.open(self._path, flags, 0o600)
        except FileExistsError:
            raise Conflict(taken(self._path)) from None
        except OSError as exc:
            raise InvalidRequest(f"{self._path} cannot be written: {exc.strerror}") from exc
        os.fchmod(handle, 0o600)  # whatever the umask takes away
        self._file = open(handle, "wb")  # closed by __exit__
        return self

    def head(self, head: Head) -> None:
        """The first line."""
        self._line(head.model_dump_json())

    def record(self, table: str, values: dict[str, Any]) -> None:
        """One line more."""
        self._line(json.dumps([table, values], ensure_ascii=True, separators=(",", ":")))
        self.records += 1

    def __exit__(self, kind: object, *_more: object) -> None:
        try:
            with self._file as file:
                if kind is None:
                    self._end(file)
        except OSError as exc:
            self._forget()
            raise InvalidRequest(f"{self._path} cannot be written: {exc.strerror}") from exc
        if kind is not None:
            self._forget()

    def _end(self, file: IO[bytes]) -> None:
        digest = self._digest.hexdigest()
        seal = self._vault.seal(PURPOSE, digest)
        end = End(records=self.records, sha256=digest, seal=seal)
        file.write(f"{end.model_dump_json()}\n".encode())
        file.flush()
        os.fsync(file.fileno())

    def _forget(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink()

    def _line(self, text: str) -> None:
        line = f"{text}\n".encode()
        self._digest.update(line)
        self._file.write(line)


class BackupReader:
    """Reads a file; what was altered is refused. A context manager."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> BackupReader:
        """:raises NotFound: when there is no such file.
        :raises InvalidRequest: when it is none of ours, altered, or of another format.
        """
        try:
            self._file = open(self._path, "rb")  # closed by __exit__
        except FileNotFoundError:
            raise NotFound(f"there is no file {self._path}") from None
        except OSError as exc:
            raise InvalidRequest(f"{self._path} cannot be read: {exc.strerror}") from exc
        try:
            self.head, self.end = self._check()
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        self._file.close()

    def sealed_by(self, vaults: Sequence[Vault]) -> Vault:
        """The one of these whose key sealed the file.

        :raises InvalidRequest: when none did.
        """
        for vault in vaults:
            with contextlib.suppress(NotSealed):
                if vault.open(PURPOSE, self.end.seal) == self.end.sha256:
                    return vault
        known = " nor ".join(str(vault.path) for vault in vaults)
        raise InvalidRequest(
            f"{self._path} was not sealed with the key in {known}: name the key file of the core "
            "that it comes from (--key); if that is the one, somebody altered the backup"
        )

    def records(self) -> Iterator[Record]:
        """All records, once more from the first.

        :raises InvalidRequest: when the file is another one by now.
        """
        digest = hashlib.sha256()
        for number, line, is_end in self._lines():
            if is_end:
                break
            digest.update(line)
            if number:
                table, values = json.loads(line)
                yield table, values
        if digest.hexdigest() != self.end.sha256:
            raise self._altered()

    def _check(self) -> tuple[Head, End]:
        digest, head, last, records = hashlib.sha256(), b"", b"", -1
        for number, line, is_end in self._lines():
            if is_end:
                last = line
            else:
                digest.update(line)
                records += 1
            head = head if number else line
        found = self._head(head)
        try:
            end = End.model_validate_json(last)
        except ValidationError:
            raise InvalidRequest(f"{self._path} is torn: its end is missing") from None
        if (end.sha256, end.records) != (digest.hexdigest(), records):
            raise self._altered()
        return found, end

    def _head(self, line: bytes) -> Head:
        try:
            told = json.loads(line)["format"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise InvalidRequest(f"{self._path} is no backup of CNSMO's") from None
        if told != FORMAT:
            raise InvalidRequest(
                f"{self._path} has the format {ascii(told)}, this release reads {FORMAT!r}"
            )
        try:
            return Head.model_validate_json(line)
        except ValidationError:
            raise self._altered() from None

    def _lines(self) -> Iterator[tuple[int, bytes, bool]]:
        """Number, line, whether it is the last one."""
        self._file.seek(0)
        line = self._file.readline()
        number = 0
        while line:
            following = self._file.readline()
            yield number, line, not following
            line, number = following, number + 1

    def _altered(self) -> InvalidRequest:
        return InvalidRequest(f"{self._path} was altered: its checksum does not match")


def taken(path: Path) -> str:
    """What is told to who would write over a file."""
    return f"{path} is there already, and nothing is written over"
