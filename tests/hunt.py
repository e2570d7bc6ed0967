# SPDX-License-Identifier: Apache-2.0
"""A hunt for secrets where none may be: logs, what processes were started with, open files."""

import contextlib
import json
import os
import stat
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

SHORTEST = 16
"""Characters; what is shorter would be found by chance."""
PAUSE = 0.002
"""Seconds between two looks at all processes."""


class Hunt:
    """Knows secrets by a word for each; samples /proc while it is entered."""

    def __init__(self) -> None:
        self._secrets: dict[str, str] = {}
        self._arguments: set[bytes] = set()
        self._stop = threading.Event()

    @property
    def words(self) -> set[str]:
        """What is known, by the first word of each."""
        return {word.split()[0] for word in self._secrets.values()}

    def know(self, word: str, *secrets: str) -> None:
        """Secrets to look for; of keys in PEM, each of the lines, for logs break them."""
        for secret in secrets:
            for line in secret.splitlines() if "PRIVATE KEY" in secret else [secret]:
                if len(line) >= SHORTEST and "PRIVATE KEY" not in line:
                    self._secrets[line] = word

    def know_file(self, path: Path) -> None:
        """All that a file of a state directory holds that is secret, by its name."""
        text = path.read_text()
        match path.name:
            case "identity.json":
                self.know("agent-secret", json.loads(text)["secret"])
            case "join.nonce":
                self.know("nonce", text)
            case "keys.json" | "authority.json" | "secrets.json":
                self.know(path.stem, *_private(json.loads(text)))
            case name if name.endswith((".key", ".pem")) and "PRIVATE KEY" in text:
                self.know(f"key {name}", text)

    def know_all(self, *directories: Path) -> None:
        """As know_file(), for all files below."""
        for directory in directories:
            for path in directory.rglob("*"):
                if path.is_file() and not path.is_symlink():
                    with contextlib.suppress(UnicodeDecodeError):
                        self.know_file(path)

    def found_in(self, text: str) -> set[str]:
        """What of the secrets stands in a text."""
        return {word for secret, word in self._secrets.items() if secret in text}

    def found_in_logs(self, logs: Iterable[Path]) -> dict[str, set[str]]:
        """What stands in each log."""
        found = {log.name: self.found_in(log.read_text(errors="replace")) for log in logs}
        return {name: words for name, words in found.items() if words}

    def found_in_processes(self) -> set[str]:
        """What stood in an argument or an environment of any process, while this was entered."""
        said = b"\0".join(self._arguments).decode(errors="replace")
        return self.found_in(said)

    def seen(self, word: str) -> bool:
        """Whether a process with that word in its arguments was sampled."""
        return any(word.encode() in arguments for arguments in self._arguments)

    def __enter__(self) -> Self:
        sys.addaudithook(self._started)  # for good; it sees what is too short for samples
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _started(self, event: str, told: tuple[Any, ...]) -> None:
        """What this process starts, and hands on to its programs."""
        if event == "subprocess.Popen" and not self._stop.is_set():
            _program, arguments, _directory, env = told
            self._arguments.add("\0".join(map(os.fsdecode, arguments)).encode())
            self._arguments.add("\0".join(map(os.fsdecode, (env or {}).values())).encode())

    def _sample(self) -> None:
        while not self._stop.wait(PAUSE):
            for process in Path("/proc").iterdir():
                if process.name.isdigit():
                    with contextlib.suppress(OSError):
                        self._arguments.add((process / "cmdline").read_bytes())
                        self._arguments.add((process / "environ").read_bytes())


def open_to_others(*directories: Path) -> dict[str, str]:
    """What group or others may touch, in and of these directories: name to mode."""
    paths = [path for it in directories for path in (it, *it.rglob("*")) if not path.is_symlink()]
    modes = {str(path): stat.S_IMODE(path.stat().st_mode) for path in paths}
    return {path: f"{mode:o}" for path, mode in modes.items() if mode & 0o077}


def _private(value: Any, key: str = "") -> Iterator[str]:
    """All texts below that only their owner may know: keys of our files that say so."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _private(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _private(inner, key)
    elif isinstance(value, str) and key in ("private", "key", "current", "former", "next"):
        yield value
