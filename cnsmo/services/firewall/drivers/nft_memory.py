# SPDX-License-Identifier: Apache-2.0
"""What the kernel made of each structure, kept to notice when somebody changes it.

nft(8) lists a ruleset in other words than it was loaded with; so what it listed when it was looked
at first is remembered, by the structure's fingerprint, and compared later. It must have the shape
of what was loaded: whoever comes between loading and looking is not taken for us.
"""

from __future__ import annotations

import json
from pathlib import Path

from cnsmo.services.firewall.drivers.guard import SLOTS
from cnsmo.services.firewall.drivers.nft_kernel import Table
from cnsmo.services.kit.private_files import read_private, write_private

Objects = tuple[tuple[str, str, str, str], ...]
Shape = tuple[set[str], dict[str, list[str]]]
"""Which sets (and what else) there are; of each chain the names of its rules, in their order."""
_COMMENT = ' comment "'


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

    def learn(self, fingerprint: str, text: str, table: Table) -> bool:
        """Remember what was listed after a text was loaded; False where it is something else."""
        if shape_of(table) != shape_of_text(text):
            return False
        write_private(self._file(fingerprint), json.dumps(table.objects))
        self._read = (fingerprint, table.objects)
        return True

    def forget(self, *kept: str | None) -> None:
        """Forget all structures but these."""
        wanted = {self._file(fingerprint) for fingerprint in kept if fingerprint}
        for path in self._dir.glob("seen-*.json"):
            if path not in wanted:
                path.unlink(missing_ok=True)
        self._read = None

    def _file(self, fingerprint: str) -> Path:
        return self._dir / f"seen-{fingerprint[:16]}.json"


def shape_of(table: Table) -> Shape:
    """Of what is there."""
    sets: set[str] = set()
    chains: dict[str, list[str]] = {}
    for kind, chain, name, _digest in table.objects:
        if kind == "set":
            sets.add(name)
        elif kind == "chain":
            chains.setdefault(name, [])
        elif kind == "rule":
            chains.setdefault(chain, []).append(name)
        elif kind != "table":
            sets.add(f"{kind} {name}")  # somebody else's: we make none
    return sets, chains


def shape_of_text(text: str) -> Shape:
    """Of what a ruleset's text makes; see nft_render."""
    sets: set[str] = set()
    chains: dict[str, list[str]] = {}
    rules: list[str] | None = None
    for line in text.splitlines():
        if line.startswith("\tset "):
            sets.add(_plain(line))
            rules = None
        elif line.startswith("\tchain "):
            rules = chains.setdefault(_plain(line), [])
        elif rules is not None and line.startswith("\t\t") and not line.startswith("\t\ttype "):
            rules.append(line.rpartition(_COMMENT)[2].rstrip('"') if _COMMENT in line else "")
    return sets, chains


def _plain(line: str) -> str:
    """The name in a line, without its slot."""
    return line.split()[1].removesuffix(f".{SLOTS[0]}")
