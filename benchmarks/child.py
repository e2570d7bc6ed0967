# SPDX-License-Identifier: Apache-2.0
"""A helper process that answers lines of JSON; it ends when we do, for its input ends then."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, Self

ROOT = Path(__file__).parents[1]
END_SECONDS = 20.0
ANSWERS = "CNSMO_BENCH_ANSWERS"
"""Environment variable with the number of the pipe for answers; anybody may print to the others."""


class Child:
    """``python -m benchmarks.MODULE``; usable when its constructor returns."""

    def __init__(self, module: str, *args: str, log: Path, enter: Sequence[str] = ()) -> None:
        """enter: what leads to where it shall run; see `serve`.

        :raises RuntimeError: when it does not come up.
        """
        self._log = log
        reader, writer = os.pipe()
        self._answers = os.fdopen(reader)
        with open(log, "ab") as errors:
            self._process = subprocess.Popen(
                [*enter, sys.executable, "-m", f"benchmarks.{module}", *args],
                stdin=subprocess.PIPE,
                stdout=errors,
                stderr=errors,
                pass_fds=[writer],
                env={**os.environ, ANSWERS: str(writer), "PYTHONPATH": str(ROOT)},
                cwd=ROOT,
                text=True,
                bufsize=1,
                start_new_session=True,  # Ctrl-C is for us: we end it in good order
            )
        os.close(writer)
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Of its process; where it runs elsewhere, of what leads there."""
        return self._process.pid

    def ask(self, **question: Any) -> Any:
        """One question, and its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        return self._answer()

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._answers.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def _answer(self) -> Any:
        line = self._answers.readline()
        if not line:
            said = "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])
            raise RuntimeError(f"{self._process.args!r} ended:\n{said}")
        return json.loads(line)


def serve(answer: Callable[[dict[str, Any]], Any]) -> NoReturn:
    """The child's side: say that we are up, then answer until the input ends; and then end at once.

    Nothing that a core or an agent would put in order is needed any more.
    """
    out = os.fdopen(int(os.environ[ANSWERS]), "w", buffering=1)
    out.write("null\n")
    for line in sys.stdin:
        out.write(json.dumps(answer(json.loads(line))) + "\n")
    os._exit(0)
