# SPDX-License-Identifier: Apache-2.0
"""The agent's copy of its deployment's rows: in memory and on disk.

On disk: one JSON line of header (format, checksum) and one of content, replaced atomically and
fsynced. A torn, foreign or future file is set aside with a warning, never half believed.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from oslo_log import log
from pydantic import BaseModel, ValidationError

from cnsmo.files import write_file
from cnsmo.model.errors import ReplicaDamaged
from cnsmo.model.resource import Changes, Row, View

LOG = log.getLogger(__name__)
FORMAT = "cnsmo-replica 1"


class Content(BaseModel):
    """What is stored: whose copy of what."""

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
        self.revision = 0
        self.saved_revision = 0
        self._rows: dict[tuple[str, str], Row] = {}
        self._view: View | None = None

    def view(self) -> View:
        """The rows as everything is computed from them."""
        if self._view is None:
            self._view = View(self.deployment, self.revision, self._rows.values())
        return self._view

    def update(self, changes: Changes) -> bool:
        """Take in what changed. Old news is ignored unless it is a snapshot.

        :return: whether the replica is different now.
        """
        if changes.snapshot:
            self._rows = {}
        elif changes.head <= self.revision:
            return False
        self._view = None
        for row in changes.rows:
            if row.deleted:
                self._rows.pop((row.kind, row.name), None)
            else:
                self._rows[row.kind, row.name] = row
        self.revision = max([changes.head, *(row.revision for row in changes.rows)])
        return True

    def save(self) -> None:
        """Write it to disk: whole or not at all, there after a power cut.

        :raises OSError: when the disk refuses (full, read-only); the old file is then still there.
        """
        content = Content(
            deployment=self.deployment,
            host_id=self.host_id,
            revision=self.revision,
            rows=[self._rows[key] for key in sorted(self._rows)],
        ).model_dump_json()
        header = json.dumps({"format": FORMAT, "sha256": _checksum(content)})
        write_file(self.path, f"{header}\n{content}\n")
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
        self._view = None
        self._rows = {(row.kind, row.name): row for row in content.rows}
        self.revision = self.saved_revision = content.revision
        return True

    def _read(self) -> Content:
        try:
            text = self.path.read_text()
            header_line, body = text.split("\n", 1)
            header = json.loads(header_line)
            form, checksum = header["format"], header["sha256"]
        except (UnicodeDecodeError, ValueError, KeyError, TypeError, RecursionError) as exc:
            raise self._damaged("has no readable header") from exc
        except FileNotFoundError:
            raise
        except OSError as exc:
            raise self._damaged(f"cannot be read: {exc.strerror}") from exc
        if form != FORMAT:
            raise self._damaged(f"has the format {ascii(form)}, expected is {FORMAT!r}")
        if _checksum(body.removesuffix("\n")) != checksum:
            raise self._damaged("is torn: its checksum does not match")
        try:
            content = Content.model_validate_json(body)
        except ValidationError as exc:
            raise self._damaged("does not hold what a replica holds") from exc
        if (content.deployment, content.host_id) != (self.deployment, self.host_id):
            raise self._damaged(f"belongs to {content.host_id} of {content.deployment}")
        return content

    def _damaged(self, why: str) -> ReplicaDamaged:
        return ReplicaDamaged(f"the replica {self.path} {why}")


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
