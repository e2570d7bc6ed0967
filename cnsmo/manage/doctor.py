# SPDX-License-Identifier: Apache-2.0
"""cnsmo-manage doctor: looks for what is wrong, or will be, and says what to do."""

from __future__ import annotations

import argparse
import json
import textwrap
from typing import TYPE_CHECKING, Any, NoReturn

from cnsmo.manage.command import Command
from cnsmo.manage.parser import Parser
from cnsmo.model.errors import CnsmoError

if TYPE_CHECKING:
    from cnsmo.doctor.symptom import Result, Symptom

COLOURS = {"WELL": "green", "WARNING": "yellow", "CRITICAL": "red", "UNKNOWN": "magenta"}
COULD_NOT_LOOK = 3


class _Parser(Parser):
    """Whose complaints do not look like a critical finding."""

    def error(self, message: str) -> NoReturn:
        self.exit(COULD_NOT_LOOK, f"{self.prog}: {message}\nSee '{self.prog} --help'.\n")


class Doctor(Command):
    """Look for what is wrong, or will be, and say what to do about it.

    Run it where a core runs, as the user that runs cnsmo-core; with --host on a VM, as root. The
    exit codes are those of Nagios' plugins, not of the other commands: 0 all is well, 1 something
    to do soon, 2 something to do now, 3 could not look. The first line says the same in words.
    """

    parser_class = _Parser
    examples = """
cnsmo-manage doctor
cnsmo-manage doctor --list
cnsmo-manage doctor --only database-clock --only certificate-ends
cnsmo-manage doctor --skip hints-not-arriving -f json
cnsmo-manage doctor --host          # on a VM
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        add = parser.add_argument
        add("--list", action="store_true", help="list the symptoms that are looked for")
        add("--only", action="append", default=[], metavar="SYMPTOM", help="look for this one only")
        add("--skip", action="append", default=[], metavar="SYMPTOM", help="do not look for it")
        add("--host", action="store_true", help="look at the agent of this VM, not at a core")
        add(
            "-f",
            "--format",
            choices=("text", "json"),
            default="text",
            metavar="FORMAT",
            help="how to print it: text, json; default: text",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        try:
            return self._look(parsed_args)
        except CnsmoError as exc:
            self.app.stderr.write(f"{self.app.NAME}: could not look: {exc}\n")
            return COULD_NOT_LOOK

    def _look(self, args: argparse.Namespace) -> int:
        from cnsmo.doctor import symptom

        group = symptom.HOST if args.host else symptom.SITE
        wanted = symptom.chosen(group, args.only, args.skip)
        if args.list:
            self._listed(wanted, args.format)
            return 0
        results = list(symptom.examine(wanted, self._patient(args.host)))
        level = symptom.worst(it.level for it in results)
        if args.format == "json":
            self.say(json.dumps(_document(results, level), indent=2))
        else:
            self._told(results, level)
        return int(level)

    def _patient(self, host: bool) -> Any:
        if host:
            from cnsmo.doctor.host import Vm

            return Vm(self.session.conf)
        from cnsmo.doctor.site import Site

        def engine() -> Any:
            self.session.require_database()
            return self.session.engine()

        return Site(self.session.conf, engine, lambda: self.session.client)

    def _listed(self, symptoms: list[Symptom], how: str) -> None:
        if how == "json":
            told = [{"symptom": it.name, "title": it.title, "advice": it.advice} for it in symptoms]
            self.say(json.dumps(told, indent=2))
            return
        width = max((len(it.name) for it in symptoms), default=0)
        for it in symptoms:
            self.say(f"{it.name:<{width}}  {it.title}")

    def _told(self, results: list[Result], level: Any) -> None:
        self.say(
            f"CNSMO {self.style.paint(_word(level), COLOURS[level.name])}: {_summary(results)}"
        )
        for result in results:
            for finding in result.findings:
                word = self.style.paint(finding.level.name.lower(), COLOURS[finding.level.name])
                self.say(f"{word} {result.symptom.name}: {finding.text}")
            if any(it.level.name != "UNKNOWN" for it in result.findings):
                self.say(textwrap.indent(result.symptom.advice, "    "))


def _word(level: Any) -> str:
    return "OK" if level.name == "WELL" else str(level.name)


def _summary(results: list[Result]) -> str:
    counts = {
        "critical": sum(it.level.name == "CRITICAL" for it in results),
        "to look after": sum(it.level.name == "WARNING" for it in results),
        "not looked at": sum(it.level.name == "UNKNOWN" for it in results),
        "well": sum(it.level.name == "WELL" for it in results),
    }
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "no symptom"


def _document(results: list[Result], level: Any) -> dict[str, Any]:
    return {
        "status": _word(level).lower(),
        "code": int(level),
        "symptoms": [
            {
                "symptom": it.symptom.name,
                "status": _word(it.level).lower(),
                "findings": [
                    {"status": _word(found.level).lower(), "text": found.text}
                    for found in it.findings
                ],
                "title": it.symptom.title,
                "advice": it.symptom.advice if it.findings else "",
            }
            for it in results
        ],
    }
