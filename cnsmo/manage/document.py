# SPDX-License-Identifier: Apache-2.0
"""Reads the operator's file, and tells of mistakes like a compiler: ``file:line:column: ...``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from cnsmo.model.errors import InvalidDocument, InvalidRequest

MAX_BYTES = 1_000_000
STDIN = "-"


def read(name: str, cwd: Path, stdin: TextIO) -> str:
    """The text of a document. name: a path, from cwd on, or ``-`` for stdin.

    :raises InvalidRequest: when it cannot be read.
    :raises InvalidDocument: when it is too large, or no UTF-8.
    """
    try:
        if name == STDIN:
            # Bytes where the stream has them; a text stream of another encoding would guess.
            raw = getattr(stdin, "buffer", stdin).read(MAX_BYTES + 1)
        else:
            with (cwd / name).open("rb") as file:
                raw = file.read(MAX_BYTES + 1)
    except OSError as exc:
        raise InvalidRequest(f"{name}: {exc.strerror or exc}") from exc
    except UnicodeDecodeError as exc:
        raise InvalidDocument(f"{shown(name)}: not UTF-8") from exc
    if len(raw) > MAX_BYTES:
        raise InvalidDocument(
            f"{shown(name)}: larger than {MAX_BYTES // 1_000_000} MB, which no deployment needs: "
            "use groups instead of single entries"
        )
    return raw if isinstance(raw, str) else _decoded(shown(name), raw)


@contextlib.contextmanager
def located(name: str) -> Iterator[None]:
    """Within, an InvalidDocument is raised anew with the file's name in each line."""
    try:
        yield
    except InvalidDocument as exc:
        problems = exc.details.get("problems")
        if not problems:
            raise
        lines = [_line(shown(name), problem) for problem in problems]
        count = f"{len(lines)} mistake{'' if len(lines) == 1 else 's'}"
        raise InvalidDocument("\n".join([*lines, f"{count}; nothing was changed."])) from exc


def shown(name: str) -> str:
    """The file's name in messages."""
    return "<stdin>" if name == STDIN else name


def _decoded(name: str, raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        before = raw[: exc.start]
        line, column = before.count(b"\n") + 1, exc.start - (before.rfind(b"\n") + 1) + 1
        raise InvalidDocument(
            f"{name}:{line}:{column}: not UTF-8 (byte 0x{raw[exc.start]:02x}): "
            "save the file in that encoding"
        ) from exc


def _line(name: str, problem: dict[str, Any]) -> str:
    place = [name, *(str(problem[key]) for key in ("line", "column") if problem.get(key))]
    path = f"{problem['path']}: " if problem.get("path") else ""
    remedy = f" ({problem['remedy']})" if problem.get("remedy") else ""
    return f"{':'.join(place)}: {path}{problem['message']}{remedy}"
