# SPDX-License-Identifier: Apache-2.0
"""help, complete, and what is said about a command that does not exist."""

from __future__ import annotations

import argparse
import difflib
from typing import TYPE_CHECKING

from cliff import complete

from cnsmo.manage import errors
from cnsmo.manage.command import Command

if TYPE_CHECKING:
    from cnsmo.manage.app import ManageApp

_FIRST = (
    *("lab", "db", "deployment", "token", "plan", "apply"),
    *("host", "agent", "service", "vpn", "firewall", "watch"),
)
"""Nouns in the order in which a newcomer needs them; others follow by name."""
_EPILOG = """\
Bash completion: put this into your ~/.bashrc:
  source <(cnsmo-manage complete)

Environment:
  CNSMO_DEPLOYMENT  the deployment that commands work in when -d is left out
  CNSMO_LAB         the lab that is meant, where several are up
  NO_COLOR          no colour, even on a terminal

Exit codes:
{codes}

'cnsmo-manage help COMMAND' tells more about each command, with examples."""


class Help(Command):
    """Show this help, or that of a command."""

    examples = """
cnsmo-manage help
cnsmo-manage help vpn        # all commands that begin with vpn
cnsmo-manage help vpn show
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("words", nargs="*", metavar="COMMAND", help="the command")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        return show(self.app, parsed_args.words)


class Complete(complete.CompleteCommand, Command):
    """Print the completion of commands and options for bash."""

    examples = """
source <(cnsmo-manage complete)      # in ~/.bashrc
cnsmo-manage complete > /etc/bash_completion.d/cnsmo-manage
"""


def show(app: ManageApp, words: list[str]) -> int:
    """Print the help of a command, of all commands of a noun, or of the program."""
    if not words:
        app.stdout.write(_program(app))
        return 0
    try:
        factory, name, _rest = app.command_manager.find_command(words)
    except ValueError:
        return unknown(app, words, asked=True)
    factory(app, app.options).get_parser(f"{app.NAME} {name}").print_help()
    return 0


def unknown(app: ManageApp, words: list[str], asked: bool = False) -> int:
    """What to say when the words name no command. asked: the person asked for help about them."""
    names = [name for name in app.command_manager.commands if name.split()[0] == words[0]]
    if names and len([word for word in words if not word.startswith("-")]) <= 1:
        text = f"usage: {app.NAME} {words[0]} COMMAND\n\n{_listed(app, names)}"
        (app.stdout if asked else app.stderr).write(text)
        return 0 if asked else 2
    said = " ".join(word for word in words[:3] if not word.startswith("-"))
    close = names or _similar(app, words)
    hint = f" Did you mean {', or '.join(map(repr, close))}?" if close else ""
    app.stderr.write(f"{app.NAME}: there is no command {said!r}.{hint}\nSee '{app.NAME} --help'.\n")
    return 2


def _similar(app: ManageApp, words: list[str]) -> list[str]:
    """Commands that may have been meant: of the most similar noun, with the same verb if it has."""
    nouns = app.command_manager.nouns()
    for noun in difflib.get_close_matches(words[0], nouns, n=1):
        same = [name for name in nouns[noun] if name.split()[1:] == words[1:2]]
        return same or nouns[noun]
    return []


def _program(app: ManageApp) -> str:
    text = app.parser.format_help()
    nouns = app.command_manager.nouns()
    order = [noun for noun in _FIRST if noun in nouns]
    order += [noun for noun in nouns if noun not in (*_FIRST, "help", "complete", "schema")]
    order += [noun for noun in ("schema", "help", "complete") if noun in nouns]
    text += "\ncommands:\n" + _listed(app, [name for noun in order for name in nouns[noun]])
    codes = "\n".join(f"  {code:>3}  {meaning}" for code, meaning in errors.EXIT_CODES.items())
    return f"{text}\n{_EPILOG.format(codes=codes)}\n"


def _listed(app: ManageApp, names: list[str]) -> str:
    width = max(len(name) for name in names)
    return "".join(
        f"  {app.style.paint(f'{name:<{width}}', 'cyan')}  {_summary(app, name)}\n"
        for name in names
    )


def _summary(app: ManageApp, name: str) -> str:
    try:
        loaded = app.command_manager.commands[name].load()
    except Exception as exc:  # noqa: BLE001  # one broken plugin must not take the help away
        return f"(cannot be loaded: {exc})"
    return (loaded.__doc__ or "").strip().split("\n")[0].rstrip(".")
