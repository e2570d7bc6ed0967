# SPDX-License-Identifier: Apache-2.0
"""The driver that writes the file: it reads back, changes what differs, and takes it away again."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

from cnsmo.services.base import Driver, Observation, Unit
from cnsmo.services.kit.private_files import read_private, remove_tree, write_private
from cnsmo_sample.service import PhonebookDesired


class FileDriver(Driver[PhonebookDesired]):
    """Keeps ``phonebook.txt`` in the unit's own directory, and nothing else anywhere."""

    name = "noop"

    def check(self) -> None:
        """Nothing is needed; else raise DriverUnavailable, naming what is missing."""

    def announce(self, unit: Unit) -> dict[str, Any]:
        """The host's own number: the same each time that it is asked for."""
        return {"extension": 100 + zlib.crc32(self.label.encode()) % 900}

    def apply(self, desired: PhonebookDesired) -> list[str]:
        """Write the file, when it is not as desired."""
        if read_private(self._file) == _text(desired):
            return []
        # Whole or not at all: the previous one works until then.
        write_private(self._file, _text(desired))
        return [f"wrote {len(desired.numbers)} numbers"]

    def observe(self, desired: PhonebookDesired) -> Observation:
        """Compare what is there with what shall be."""
        same = read_private(self._file) == _text(desired)
        drift = () if same else (f"{self._file} is not as written",)
        return Observation(drift=drift, detail={"numbers": len(desired.numbers)})

    def remove(self) -> None:
        """Leave nothing behind, and say so where that cannot be done."""
        remove_tree(self.state_dir)

    @property
    def _file(self) -> Path:
        return self.state_dir / "phonebook.txt"


def _text(desired: PhonebookDesired) -> str:
    return "".join(f"{number} {name}\n" for name, number in desired.numbers)
