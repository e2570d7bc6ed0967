# SPDX-License-Identifier: Apache-2.0
"""The driver that writes the file: it reads back, changes what differs, and takes it away again."""

from __future__ import annotations

import shutil
import zlib
from pathlib import Path
from typing import Any

from cnsmo.model.errors import DriverError
from cnsmo.services.base import Driver, Observation, Unit
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
        if self._present() == _text(desired):
            return []
        try:
            self.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = self._file.with_suffix(".new")
            draft.write_text(_text(desired))
            draft.replace(self._file)  # whole or not at all: the previous one works until then
        except OSError as exc:
            raise DriverError(f"{self._file}: {exc.strerror}") from exc
        return [f"wrote {len(desired.numbers)} numbers"]

    def observe(self, desired: PhonebookDesired) -> Observation:
        """Compare what is there with what shall be."""
        drift = () if self._present() == _text(desired) else (f"{self._file} is not as written",)
        return Observation(drift=drift, detail={"numbers": len(desired.numbers)})

    def remove(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self.state_dir, ignore_errors=True)

    @property
    def _file(self) -> Path:
        return self.state_dir / "phonebook.txt"

    def _present(self) -> str | None:
        return self._file.read_text() if self._file.exists() else None


def _text(desired: PhonebookDesired) -> str:
    return "".join(f"{number} {name}\n" for name, number in desired.numbers)
