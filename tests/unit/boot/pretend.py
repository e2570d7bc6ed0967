# SPDX-License-Identifier: Apache-2.0
"""A machine on which nothing is run."""

from collections.abc import Callable, Sequence

from cnsmo.services.base import Completed

Answer = str | Exception | Completed | Callable[[], str]


class PretendSystem:
    """Notes what is run; answers by the beginning of the command line."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.stdin: dict[str, str] = {}
        self.answers: dict[str, Answer] = {}

    def run(
        self,
        *args: str,
        stdin: str | None = None,
        timeout: float = 10.0,
        ok: Sequence[int] = (0,),
    ) -> Completed:
        line = " ".join(args)
        self.ran.append(line)
        if stdin is not None:
            self.stdin[line] = stdin
        said = next((it for begin, it in self.answers.items() if line.startswith(begin)), "")
        if isinstance(said, Exception):
            raise said
        if isinstance(said, Completed):
            return said
        return Completed(args, 0, said() if callable(said) else said, "")
