# SPDX-License-Identifier: Apache-2.0
"""argparse that speaks through the command's own streams: several commands may run at once."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn, TextIO

_REMOVED = "table formatter", "json formatter", "CSV Formatter", "shell formatter"


class Parser(argparse.ArgumentParser):
    """A parser whose help goes to ``stdout`` and whose complaints go to ``stderr``."""

    def __init__(self, *, stdout: TextIO, stderr: TextIO, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **kwargs)
        self._stdout = stdout
        self._stderr = stderr

    def format_help(self) -> str:
        """The whole help, with a short usage: the options are listed below it anyway."""
        if self.usage is None:
            words = [self._words(action) for action in self._get_positional_actions()]
            self.usage = " ".join([self.prog, "[option ...]", *words])
        return super().format_help()

    @staticmethod
    def _words(action: argparse.Action) -> str:
        word = str(action.metavar or action.dest)
        return {"?": f"[{word}]", "*": f"[{word} ...]", "+": f"{word} [{word} ...]"}.get(
            str(action.nargs), word
        )

    def print_help(self, file: Any = None) -> None:
        """Print the whole help."""
        (file or self._stdout).write(self.format_help())

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """End, saying why."""
        if message:
            self._stderr.write(message)
        raise SystemExit(status)

    def error(self, message: str) -> NoReturn:
        """End because of wrong usage: one line what is wrong, one where help is."""
        self.exit(2, f"{self.prog}: {message}\nSee '{self.prog} --help'.\n")


def tidy(parser: argparse.ArgumentParser) -> None:
    """Leave rarely used options of cliff's formatters out of the help; they work all the same."""
    for group in parser._action_groups:
        if group.title in _REMOVED:
            group.title = group.description = None
            for action in group._group_actions:
                action.help = argparse.SUPPRESS
        elif group.title == "output formatters":
            group.title, group.description = "output", None
            for action in group._group_actions:
                if action.dest not in ("formatter", "columns"):
                    action.help = argparse.SUPPRESS
                elif action.dest == "formatter":
                    action.metavar = "FORMAT"
                    choices = ", ".join(str(choice) for choice in action.choices or ())
                    action.help = f"how to print it: {choices}; default: {action.default}"
                else:
                    action.help = "print this column only; may be repeated"
