# SPDX-License-Identifier: Apache-2.0
"""cnsmo-manage audit: who did what, and the proof that nobody changed what is written of it."""

from __future__ import annotations

import argparse
import datetime
import json
import re
from typing import TYPE_CHECKING, Any

from cnsmo.manage import durations
from cnsmo.manage.cells import NONE, Cell, Moment, Names, one_line
from cnsmo.manage.command import VARIABLE, ListCommand
from cnsmo.manage.errors import Tampered

if TYPE_CHECKING:
    from cnsmo.model.audit import AuditLine

MAX_LINES = 100_000
LONGEST = 60
"""Characters of a change in a table; -f json has all."""


class List(ListCommand):
    """List what was done to a deployment: by whom, from where, what it was before and is now.

    The newest lines that match are shown, the oldest of them first. 'From' is an operator's machine
    as its program says, the address that a join came from, or the id that a host proved to be. The
    audit of a deployment that was deleted is kept for a while ([core] audit_keep).
    """

    in_deployment = True
    examples = """
cnsmo-manage audit list
cnsmo-manage audit list --host web1 --since 7d
cnsmo-manage audit list --revision 42 -f json
cnsmo-manage audit list --kind vpn --who anna --limit 5
cnsmo-manage watch --type 'audit.*'              # as it happens
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        add = parser.add_argument
        add("--host", metavar="NAME", help="about this host")
        add("--who", metavar="NAME", help="done by this operator, host, or 'core'")
        add("--kind", metavar="KIND", help="of things of this kind, as vpn, host, token, identity")
        add("--action", metavar="ACTION", help="done so, as apply, join, 'host remove'")
        add("--revision", type=int, metavar="N", help="written in this revision")
        add("--since", type=moment, metavar="WHEN", help="not older than that: 7d, or 2026-11-23")
        add(
            "--limit",
            type=_limit,
            default=100,
            metavar="N",
            help=f"so many lines, at most; default: 100, at most {MAX_LINES:,}",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], list[Any]]:
        from cnsmo.model.audit import AuditQuery

        args = parsed_args
        name, client = self.deployment(args), self.session.client
        query = AuditQuery(
            host=args.host,
            who=args.who,
            kind=args.kind,
            action=args.action,
            revision=args.revision,
            since=args.since,
            limit=args.limit,
        )
        lines = list(client.audit_list(name, query))[::-1]
        columns = "Number", "At", "Who", "From", "Action", "Kind", "Name", "Host", "Revision"
        if args.formatter == "table":
            return (*columns, "Change"), [(*_cells(line), _Change(line)) for line in lines]
        more = "Role", "Before", "After", "Chain", "Hash"
        return (*columns, *more), [
            (*_cells(line), line.role, _data(line.before), _data(line.after), line.chain, line.hash)
            for line in lines
        ]

    def empty(self, args: argparse.Namespace) -> str:
        return "Nothing that was done matches."


class Verify(ListCommand):
    """Verify that no line of the audit was removed, altered or inserted, and that its end is whole.

    This goes to the database directly, and needs the key that seals it; no core is asked. Without
    -d, all audits are verified, also those of deployments that were deleted. Who can write the
    database can put an older state back, with its end: keep a digest that this command printed
    elsewhere, and see with --head that it is still there. Exit code 11: something was changed.
    """

    examples = """
cnsmo-manage audit verify
cnsmo-manage audit verify -d shop -f value -c head > /mnt/elsewhere/shop.head
cnsmo-manage audit verify -d shop --head "$(cat /mnt/elsewhere/shop.head)"
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "-d",
            "--deployment",
            metavar="NAME",
            help=f"only of this deployment; default: ${VARIABLE}, or all",
        )
        parser.add_argument(
            "--head", type=_digest, metavar="HASH", help="a digest that the audit must still have"
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], list[Any]]:
        from cnsmo.state import schema, sealing
        from cnsmo.state.audit_trail import AuditTrail

        self.session.require_database()
        engine, vault = self.session.engine(), self.session.vault()
        schema.check(engine)
        sealing.check(engine, vault)
        name = parsed_args.deployment or self.app.env.get(VARIABLE)
        found = AuditTrail(engine, vault).verify(name, parsed_args.head or "")
        self._wrong = [f"{it.deployment}: {problem}" for it in found for problem in it.problems]
        columns = "Deployment", "Deleted", "First", "Last", "Head", "Problems", "Chain"
        return columns, [
            (
                it.deployment, it.ended, it.first, it.lines, it.head,
                Names(it.problems, lines=True), it.chain,
            )
            for it in found
        ]  # fmt: skip

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Print what was found; then fail if something is wrong."""
        code: int = super().run(parsed_args)
        if self._wrong:
            raise Tampered("the audit was changed: " + "; ".join(self._wrong))
        return code

    def empty(self, args: argparse.Namespace) -> str:
        return "There is no audit yet."


class _Change(Cell):
    """What a line says of a change, in short."""

    def human_readable(self) -> str:
        return change(self._value)


def change(line: AuditLine) -> str:
    """What changed, for people: keys that differ, with what they were and are."""
    before, after = _data(line.before), _data(line.after)
    if after is None:
        return "removed"
    if before is None:
        return _short(one_line(after))
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    told = [f"{key}: {_plain(before, key)} -> {_plain(after, key)}" for key in keys]
    return _short("; ".join(told)) or NONE


def moment(text: str) -> datetime.datetime:
    """A time: so long ago, or a date or time as ISO 8601 has it (the reader's own zone).

    :raises argparse.ArgumentTypeError: when it is neither.
    """
    try:
        return datetime.datetime.fromisoformat(text).astimezone()
    except ValueError:
        pass
    ago = datetime.timedelta(seconds=durations.seconds(text))
    return datetime.datetime.now(datetime.UTC) - ago


def _cells(line: AuditLine) -> tuple[Any, ...]:
    from cnsmo.model.names import printable

    return (
        line.number,
        Moment(line.at),
        printable(line.who),
        printable(line.source),
        line.action,
        line.kind,
        line.name,
        line.host,
        line.revision,
    )


def _plain(body: dict[str, Any], key: str) -> str:
    return one_line(body[key]) if key in body else NONE


def _data(text: str) -> Any:
    return json.loads(text) if text else None


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def _limit(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= MAX_LINES:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to {MAX_LINES:,}")
    return int(text)


def _digest(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", text.strip()):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no digest: 64 hexadecimal digits, as 'audit verify' prints them"
        )
    return text.strip()
