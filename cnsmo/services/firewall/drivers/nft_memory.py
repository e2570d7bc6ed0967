# SPDX-License-Identifier: Apache-2.0
"""What the kernel made of each structure, kept to notice when somebody changes it.

nft(8) lists a ruleset in other words than it was loaded with; so what it listed right after loading
is remembered, by the structure's fingerprint, and compared later.
"""

from __future__ import annotations

import json
from pathlib import Path

from cnsmo.services.firewall.drivers.nft_kernel import Table
from cnsmo.services.kit.private_files import read_private, write_private

Objects = tuple[tuple[str, str, str, str], ...]


class Memory:
    """One file for each structure."""

    def __init__(self, state_dir: Path) -> None:
        self._dir = state_dir
        self._read: tuple[str, Objects] | None = None

    def recall(self, fingerprint: str | None) -> Objects | None:
        """The objects of a structure; None when it never was loaded, or that is forgotten."""
        if fingerprint is None:
            return None
        if self._read and self._read[0] == fingerprint:
            return self._read[1]
        try:
            rows = json.loads(read_private(self._file(fingerprint)) or "null")
            found = tuple((str(a), str(b), str(c), str(d)) for a, b, c, d in rows)
        except (ValueError, TypeError):
            return None
        self._read = (fingerprint, found)
        return found

    def learn(self, fingerprint: str, table: Table) -> None:
        """Remember what was listed right after loading."""
        write_private(self._file(fingerprint), json.dumps(table.objects))
        self._read = (fingerprint, table.objects)

    def forget(self, *kept: str | None) -> None:
        """Forget all structures but these."""
        wanted = {self._file(fingerprint) for fingerprint in kept if fingerprint}
        for path in self._dir.glob("seen-*.json"):
            if path not in wanted:
                path.unlink(missing_ok=True)
        self._read = None

    def _file(self, fingerprint: str) -> Path:
        return self._dir / f"seen-{fingerprint[:16]}.json"
