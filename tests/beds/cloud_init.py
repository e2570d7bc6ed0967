# SPDX-License-Identifier: Apache-2.0
"""Real cloud-init code, of the releases that CNSMO boots on, in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.beds.archive import Archive

CHILD = Path(__file__).with_name("cloud_init_child.py")
RELEASES = ["bookworm", "trixie"]
"""Of Debian: cloud-init 22.4 and 25.1."""


class CloudInit:
    """One version of cloud-init. It is not installed: only its Python code runs."""

    def __init__(self, release: str, folder: Path) -> None:
        """Raises MissingPackage."""
        Archive(release, folder / "apt").unpack("cloud-init", folder / "root")
        code = folder / "root" / "usr" / "lib" / "python3" / "dist-packages"
        self._child = subprocess.Popen(
            [sys.executable, "-P", str(CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(code)},
        )
        self.version = str(self._ask({})["version"])

    def read(self, text: str, metadata: dict[str, str] | None = None) -> dict[str, Any]:
        """What it makes of user-data on a VM with that server metadata.

        ``text``: rendered; ``config``: as parsed; ``problems``: what its schema says; ``warnings``.
        """
        return self._ask({"text": text, "metadata": metadata or {}})

    def close(self) -> None:
        """End its process."""
        assert self._child.stdin is not None
        self._child.stdin.close()
        self._child.wait(10)

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(json.dumps(question) + "\n")
        self._child.stdin.flush()
        return json.loads(self._child.stdout.readline())  # type: ignore[no-any-return]
