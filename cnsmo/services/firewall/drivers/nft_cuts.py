# SPDX-License-Identifier: Apache-2.0
"""Whose flows have to be looked at after a change; that they have to be is known on the disk."""

from __future__ import annotations

from pathlib import Path

from cnsmo.services.firewall.drivers.nft_render import Delta

FILE = "cut"


class Cuts:
    """What is asked for is due until it is done, for a later process, too."""

    def __init__(self, state_dir: Path) -> None:
        self._file = state_dir / FILE
        self._left: set[str] | None = None

    @property
    def due(self) -> bool:
        """Whether there are flows to look at."""
        return self._file.exists()

    @property
    def left(self) -> set[str] | None:
        """The addresses and networks whose flows they are; None: everybody's."""
        return self._left

    def ask(self, delta: Delta | None) -> None:
        """Note a change: members that came and went; None: any other."""
        gone = delta.gone.values() if delta is not None else ()
        wide = delta is None or (self.due and self._left is None)
        found = {item for items in gone for item in items}
        self._left = None if wide else found | (self._left or set())
        self._file.touch(mode=0o600)

    def done(self) -> None:
        """They were looked at."""
        self._left = None
        self._file.unlink(missing_ok=True)
