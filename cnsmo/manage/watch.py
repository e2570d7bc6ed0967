# SPDX-License-Identifier: Apache-2.0
"""cnsmo-manage watch: events as they happen."""

from __future__ import annotations

import argparse
import fnmatch
import math
import time
from typing import TYPE_CHECKING

from cnsmo.manage import durations
from cnsmo.manage.cells import local_time
from cnsmo.manage.command import VARIABLE, Command
from cnsmo.manage.errors import NotInForce

if TYPE_CHECKING:
    from cnsmo.model.messages import EventMessage

AUDIT = "audit."
ALARMS = ("audit.broken", "audit.join-refused")
"""Of the audit, what somebody should see who asked for nothing."""
"""How the types of events begin that tell a second time of what others tell."""


class Watch(Command):
    """Print events as they happen, until Ctrl-C.

    Types: agent.STATE (joining, configuring, ready, degraded, error, down, left), agent.behind,
    host.announced, host.moved, host.disputed, host.quarantined, host.removed, SERVICE.declared or
    SERVICE.removed for what operators declare and for what hosts announce to it (as vpn.declared,
    vpn.member.declared). And audit.ACTION for what the audit says of a write (as audit.apply,
    audit.join); these are shown only where --type asks for them, but for audit.broken and
    audit.join-refused.

    Events before the start are not shown: 'agent list' and 'host list' show how things stand.
    """

    examples = """
cnsmo-manage watch
cnsmo-manage watch --type 'agent.*' --host web1
cnsmo-manage watch -d shop -f json | jq .type
cnsmo-manage watch --type agent.ready --count 3 --timeout 1m   # wait for three; 9 if in vain
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        add = parser.add_argument
        add(
            "-d",
            "--deployment",
            metavar="NAME",
            help=f"of this deployment; default: ${VARIABLE}, or of all",
        )
        add(
            "--type",
            action="append",
            default=[],
            metavar="GLOB",
            help="of this type, * and ? match anything; may be repeated",
        )
        add("--host", action="append", default=[], metavar="GLOB", help="of these hosts")
        add("--service", action="append", default=[], metavar="GLOB", help="of these services")
        add("--count", type=_count, metavar="N", help="end after that many")
        add(
            "--timeout",
            type=durations.seconds,
            metavar="DURATION",
            help="end after that time; with exit code 9 if --count was not reached",
        )
        add(
            "-f",
            "--format",
            choices=("text", "json"),
            default="text",
            help="text, or json: one object a line; default: text",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        parsed_args.deployment = parsed_args.deployment or self.app.env.get(VARIABLE)
        wanted = parsed_args.count or math.inf
        until = math.inf if parsed_args.timeout is None else time.monotonic() + parsed_args.timeout
        seen = 0
        with self.session.watch() as watch:
            while seen < wanted:
                left = None if until == math.inf else until - time.monotonic()
                if left is not None and left <= 0:
                    break
                event = watch.next(left)
                if event is not None and _matches(event, parsed_args):
                    self._print(event, parsed_args.format)
                    seen += 1
        if wanted != math.inf and seen < wanted:
            raise NotInForce(
                f"{seen} of {wanted} events came within {durations.words(parsed_args.timeout)}"
            )

    def _print(self, event: EventMessage, form: str) -> None:
        if form == "json":
            self.say(event.model_dump_json())
        else:
            at = local_time(event.at)
            what = self._coloured(f"{event.type:<20}", event.type)
            where = "/".join(part for part in (event.host, event.service) if part)
            self.say(
                f"{at}  {event.deployment}  r{event.revision:<4} {what}  "
                f"{where:<16}  {event.message}".rstrip()
            )
        self.app.stdout.flush()

    def _coloured(self, text: str, kind: str) -> str:
        state = kind.removeprefix("agent.")
        return text if state == kind else self.style.state(state, text)


def _matches(event: EventMessage, args: argparse.Namespace) -> bool:
    if args.deployment and event.deployment != args.deployment:
        return False
    if not args.type and event.type.startswith(AUDIT) and event.type not in ALARMS:
        return False
    pairs = (args.type, event.type), (args.host, event.host), (args.service, event.service)
    return all(
        not globs or any(fnmatch.fnmatchcase(value, glob) for glob in globs)
        for globs, value in pairs
    )


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)
