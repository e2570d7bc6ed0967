# SPDX-License-Identifier: Apache-2.0
"""The program cnsmo-manage: finds the command, runs it, and turns what goes wrong into one line.

run() may be called many times in one process, by several threads at once.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from cliff import app

from cnsmo import __version__
from cnsmo.manage import errors, manual
from cnsmo.manage.catalogue import Catalogue
from cnsmo.manage.parser import Parser
from cnsmo.manage.session import Session
from cnsmo.manage.style import Style
from cnsmo.model.errors import CnsmoError, InvalidDocument

NAME = "cnsmo-manage"
_DESCRIPTION = """\
Deploys network services across the VMs of a deployment: you declare them in a document, the
agents on the VMs make them so. To begin:

  cnsmo-manage db upgrade                          make the database
  cnsmo-manage deployment create shop
  cnsmo-manage token create --group web --uses 5   what the VMs' agents join with
  cnsmo-manage apply shop.yaml --wait              declare the services
  cnsmo-manage host list                           see what came of it"""


LOCAL = frozenset({"ca", "complete", "db", "help", "lab", "schema"})
"""Nouns whose commands never need the core of a lab."""


def forward(argv: Sequence[str]) -> int | None:
    """Hand a command to the hub of the lab that is up: its bus lives in that process only.

    Where a broker is configured, or a configuration is named, nothing is forwarded.

    :return: its exit code; None when no lab is up, or the command belongs here.
    """
    words = [word for word in argv if not word.startswith("-")]
    if not words or words[0] in LOCAL or any(word.startswith("--config") for word in argv):
        return None
    from cnsmo.manage import lab

    try:
        hub = lab.standing_hub(os.environ)
        if hub is None:
            return None
        return hub.pass_on(argv, sys.stdin, sys.stdout, sys.stderr)
    except CnsmoError as exc:
        sys.stderr.write(f"{NAME}: {exc}\n")
        return exc.exit_code


def run(
    argv: Sequence[str],
    stdin: TextIO,
    stdout: TextIO,
    stderr: TextIO,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    embed: bool = False,
) -> int:
    """Run one command to its end.

    env, cwd: those of the person who called, where that is another process. embed: start a core
    in this process if the bus is in-process; leave it False where one runs already.

    :return: the exit code, see errors.EXIT_CODES.
    """
    return ManageApp(stdin, stdout, stderr, env, cwd, embed).run(list(argv))


class ManageApp(app.App):
    """One run of the program."""

    NAME = NAME
    command_manager: Catalogue

    def __init__(
        self,
        stdin: TextIO,
        stdout: TextIO,
        stderr: TextIO,
        env: Mapping[str, str] | None,
        cwd: Path | None,
        embed: bool,
    ) -> None:
        self.env = os.environ if env is None else env
        self.cwd = cwd or Path()
        self._embed = embed
        super().__init__(
            _DESCRIPTION,
            __version__,
            Catalogue("cnsmo.manage"),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
        )
        self.command_manager.add_command("help", manual.Help)
        self.command_manager.add_command("complete", manual.Complete)
        self.style = Style.of(stdout, self.env)
        self.session = Session((), embed)

    def _set_streams(
        self, stdin: TextIO | None, stdout: TextIO | None, stderr: TextIO | None
    ) -> None:
        """As they are: cliff would also set the locale of the whole process."""
        self.stdin = stdin or sys.stdin
        self.stdout = stdout or sys.stdout
        self.stderr = stderr or sys.stderr

    def build_option_parser(
        self,
        description: str | None,
        version: str | None,
        argparse_kwargs: dict[str, Any] | None = None,
    ) -> argparse.ArgumentParser:
        parser = Parser(
            prog=NAME,
            description=description,
            usage=f"{NAME} [option ...] COMMAND [argument ...]",
            add_help=False,
            stdout=self.stdout,
            stderr=self.stderr,
        )
        add = parser.add_argument
        add("-h", "--help", action="store_true", help="show this help, or that of a command")
        add("--version", action="store_true", help="show the version")
        add("--debug", action="store_true", help="show tracebacks of errors, and log lines")
        add(
            "--config-file",
            action="append",
            default=[],
            metavar="PATH",
            help="read this file instead of /etc/cnsmo/cnsmo.conf; may be repeated",
        )
        add(
            "--config-dir",
            action="append",
            default=[],
            metavar="PATH",
            help="read the *.conf files of this directory; may be repeated",
        )
        return parser

    def run(self, argv: list[str]) -> int:
        """Run a command line; every outcome is an exit code."""
        try:
            return self._run(argv)
        except SystemExit as exc:
            return exc.code if isinstance(exc.code, int) else 1
        except KeyboardInterrupt:
            return errors.INTERRUPTED
        except BrokenPipeError:
            return errors.BROKEN_PIPE
        except Exception as exc:  # noqa: BLE001  # the last place that can tell the person
            return self._failed(exc)
        finally:
            self.session.close()

    def _run(self, argv: list[str]) -> int:
        end = argv.index("--") if "--" in argv else len(argv)
        self.options, words = self.parser.parse_known_args(argv[:end])
        words += argv[end:]
        if self.options.version:
            self.stdout.write(f"{NAME} {__version__}\n")
            return 0
        config = [f"--config-file={path}" for path in self.options.config_file]
        config += [f"--config-dir={path}" for path in self.options.config_dir]
        self.session = Session(config, self._embed)
        if self.options.help or not words or words[0].startswith("-"):
            if words and words[0].startswith("-") and words[0] != "--":
                self.parser.error(f"unknown option {words[0]}")
            return manual.show(self, [word for word in words if not word.startswith("-")])
        return self.run_subcommand(words)

    def run_subcommand(self, argv: list[str]) -> int:
        """Find the command that the words name, and run it; its errors are raised."""
        try:
            factory, name, rest = self.command_manager.find_command(argv)
        except ValueError:
            return manual.unknown(self, argv)
        command = factory(self, self.options)
        return command.run(command.get_parser(f"{NAME} {name}").parse_args(rest))

    def _failed(self, exc: Exception) -> int:
        if self.options.debug:
            self.stderr.write("".join(traceback.format_exception(exc)))
        if isinstance(exc, InvalidDocument):
            # Its lines begin with FILE:LINE:COLUMN, so that editors can jump there.
            self.stderr.write(f"{exc}\n")
            return exc.exit_code
        if isinstance(exc, CnsmoError):
            self._complain(str(exc))
            return exc.exit_code
        self._complain(f"unforeseen {type(exc).__name__}: {exc} (--debug shows where)")
        return 1

    def _complain(self, text: str) -> None:
        word = Style.of(self.stderr, self.env).paint(f"{NAME}:", "red")
        self.stderr.write(f"{word} {text}\n")
