# SPDX-License-Identifier: Apache-2.0
"""What a command of cnsmo-manage is made of; a service's own commands derive from these too.

The class's docstring is the help: its first line stands in the list of commands. ``examples`` are
shown below it. ``self.session`` leads to the core, ``self.say()`` to the person.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from cliff import command, lister, show

from cnsmo.manage import cells
from cnsmo.manage.parser import Parser, tidy
from cnsmo.model.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from cnsmo.manage.app import ManageApp
    from cnsmo.manage.session import Session
    from cnsmo.manage.style import Style

VARIABLE = "CNSMO_DEPLOYMENT"


class Command(command.Command):
    """Base of all commands."""

    app: ManageApp
    examples: ClassVar[str] = ""
    """Lines of ``command  # what it does``, shown at the end of the help."""
    in_deployment: ClassVar[bool] = False
    """Whether the command works in one deployment, and so has the option -d."""
    parser_class: ClassVar[type[Parser]] = Parser
    """What takes the command line apart."""
    writes: ClassVar[bool] = False
    """Whether the command changes something, and so has the option --dry-run."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The parser, with what all commands of this kind have in common."""
        parser = self.parser_class(
            prog=prog_name,
            description=self.get_description(),
            epilog=self.get_epilog(),
            stdout=self.app.stdout,
            stderr=self.app.stderr,
        )
        if self.in_deployment:
            parser.add_argument(
                "-d",
                "--deployment",
                metavar="NAME",
                help=f"the deployment; default: ${VARIABLE}, or the only one that there is",
            )
        if self.writes:
            parser.add_argument(
                "--dry-run", action="store_true", help="say what would be done, and do nothing"
            )
        return parser

    def get_epilog(self) -> str:
        """The examples."""
        if not self.examples:
            return ""
        lines = [f"  {line}" for line in self.examples.strip().splitlines()]
        return "\n".join(["examples:", *lines])

    @property
    def session(self) -> Session:
        """The way to the core."""
        return self.app.session

    @property
    def style(self) -> Style:
        """Colour for what is printed on stdout."""
        return self.app.style

    def say(self, text: str = "") -> None:
        """Print a line."""
        self.app.stdout.write(f"{text}\n")

    def note(self, text: str) -> None:
        """Print a line for the person, which is no part of the output."""
        self.app.stderr.write(f"{text}\n")

    def dry(self, would: str) -> None:
        """Say what would have been done."""
        self.say(f"Dry run: would {would}. Nothing was changed.")

    def deployment(self, args: argparse.Namespace) -> str:
        """The deployment that is meant: the option, the environment, or the only one.

        :raises InvalidRequest: when there are several and none was named.
        :raises NotFound: when there is none.
        """
        named = args.deployment or self.app.env.get(VARIABLE)
        if named:
            return str(named)
        names = [found.name for found in self.session.client.deployment_list()]
        if not names:
            raise NotFound(
                "there is no deployment yet: 'cnsmo-manage deployment create NAME' makes one"
            )
        if len(names) > 1:
            listed = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
            raise InvalidRequest(
                f"which deployment? There are {listed}. Say it with -d NAME, or once for all "
                f"with export {VARIABLE}=NAME"
            )
        return names[0]


def _titles(args: argparse.Namespace, names: Sequence[str]) -> list[str]:
    """Titles are words for people and keys for programs: ``VPN addresses``, ``vpn_addresses``."""
    if args.formatter == "table":
        return list(names)
    return [name.lower().replace(" ", "_") for name in names]


def _row(args: argparse.Namespace, row: Iterable[Any]) -> list[Any]:
    if args.formatter in ("csv", "value", "shell"):
        return [cells.plain(cell) for cell in row]
    return [cells.shown(cell) for cell in row] if args.formatter == "table" else list(row)


def _wrong_column(args: argparse.Namespace, names: Sequence[str]) -> NoReturn:
    known = ", ".join(name.lower().replace(" ", "_") for name in names)
    raise InvalidRequest(f"no column {', '.join(args.columns)}; there are: {known}")


class ListCommand(lister.Lister, Command):
    """A command that prints a row for each thing: a table for people, and -f for programs."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        tidy(parser)
        return parser

    def produce_output(
        self, parsed_args: argparse.Namespace, column_names: Sequence[str], data: Iterable[Any]
    ) -> int:
        names = _titles(parsed_args, column_names)
        rows = [_row(parsed_args, row) for row in data]
        try:
            self._generate_columns_and_selector(parsed_args, names)
        except ValueError:
            _wrong_column(parsed_args, names)
        if not rows and parsed_args.formatter == "table":
            self.say(self.empty(parsed_args))
            return 0
        return super().produce_output(parsed_args, names, rows)

    def empty(self, args: argparse.Namespace) -> str:
        """What to tell a person when there is nothing to list."""
        return "There are none."


class ShowCommand(show.ShowOne, Command):
    """A command that prints one thing, a line for each of its properties."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        tidy(parser)
        return parser

    def produce_output(
        self, parsed_args: argparse.Namespace, column_names: Sequence[str], data: Sequence[Any]
    ) -> int:
        names = _titles(parsed_args, column_names)
        try:
            self._generate_columns_and_selector(parsed_args, names)
        except ValueError:
            _wrong_column(parsed_args, names)
        return super().produce_output(parsed_args, names, _row(parsed_args, data))
