# SPDX-License-Identifier: Apache-2.0
"""cnsmo-manage plan and apply: from the document to the System State."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from cnsmo.manage import changes, document, durations, inforce
from cnsmo.manage.cells import age
from cnsmo.manage.command import Command
from cnsmo.manage.errors import NotInForce
from cnsmo.manage.style import Style
from cnsmo.model.errors import NotFound

if TYPE_CHECKING:
    from cnsmo.bus.events import Watch
    from cnsmo.manage.inforce import Picture
    from cnsmo.model.messages import Plan as PlanMessage

PATIENCE = 60


class Plan(Command):
    """Show what applying a document would change, and change nothing.

    Row by row: + added, ~ changed with the keys that differ, - removed; and which hosts are
    touched. A wrong document gets one line for each mistake: FILE:LINE:COLUMN: what is wrong.
    """

    examples = """
cnsmo-manage plan shop.yaml
cnsmo-manage deployment export shop | sed s/10.66/10.77/ | cnsmo-manage plan -
cnsmo-manage plan shop.yaml -f json | jq '.changes | length'
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("file", metavar="FILE", help="the document; - reads stdin")
        parser.add_argument(
            "-f",
            "--format",
            choices=("text", "json", "yaml"),
            default="text",
            help="how to print it; default: text",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        self._print(self._plan(self._text(parsed_args), parsed_args), parsed_args)

    def _text(self, args: argparse.Namespace) -> str:
        return document.read(args.file, self.app.cwd, self.app.stdin)

    def _plan(self, text: str, args: argparse.Namespace) -> PlanMessage:
        try:
            with document.located(args.file):
                return self.session.client.plan(text)
        except NotFound as exc:
            raise NotFound(
                f"{document.shown(args.file)}: {exc}, 'cnsmo-manage deployment create' makes one"
            ) from exc

    def _print(self, plan: PlanMessage, args: argparse.Namespace) -> None:
        if args.format == "json":
            self.say(plan.model_dump_json(indent=2))
        elif args.format == "yaml":
            import yaml

            self.app.stdout.write(yaml.safe_dump(plan.model_dump(mode="json"), sort_keys=False))
        else:
            for line in changes.told(plan, self.style):
                self.say(line)


class Apply(Plan):
    """Make a deployment as a document says.

    Shows what changes, as 'plan' does, and writes it in one step. If somebody else changes the
    deployment in between, nothing is written, and the message says who changed what.

    With --wait it ends when all hosts that are not down have it in force; with exit code 9 and
    the reasons if one of them is in error, or time runs out.
    """

    writes = True
    examples = """
cnsmo-manage apply shop.yaml
cnsmo-manage apply shop.yaml --wait
cnsmo-manage apply shop.yaml --dry-run      # the same as 'plan'
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--wait",
            nargs="?",
            type=durations.seconds,
            const=PATIENCE,
            metavar="DURATION",
            help=f"wait until it is in force everywhere, at most so long; default: {PATIENCE} s",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        text = self._text(parsed_args)
        if parsed_args.dry_run:
            plan = self._plan(text, parsed_args)
            self._print(plan, parsed_args)
            if parsed_args.format == "text" and plan.changes:
                self.say("Dry run: nothing was changed.")
        elif parsed_args.wait is None:
            self._apply(text, parsed_args)
        else:
            with self.session.watch() as watch:
                plan = self._apply(text, parsed_args)
                self._wait(watch, plan, parsed_args.wait)

    def _apply(self, text: str, args: argparse.Namespace) -> PlanMessage:
        plan = self._plan(text, args)
        if args.format == "text":
            self._print(plan, args)
        if plan.changes:
            with document.located(args.file):
                done = self.session.client.apply(text, plan.base_revision)
            plan = done.model_copy(update={"effects": plan.effects})
            if args.format == "text":
                self.say(f"Applied as revision {plan.revision}.")
        if args.format != "text":
            self._print(plan, args)
        return plan

    def _wait(self, watch: Watch, plan: PlanMessage, patience: float) -> None:
        began = time.monotonic()
        self.app.stdout.flush()
        with self._bar() as show:
            picture = inforce.wait(
                self.session.client, watch, plan.deployment, plan.revision or 0, patience, show
            )
        self._conclude(picture, time.monotonic() - began)

    @contextlib.contextmanager
    def _bar(self) -> Iterator[Callable[[Picture], None]]:
        """A bar that grows on a terminal, and vanishes; elsewhere nothing."""
        if not self.app.stderr.isatty():
            yield lambda _picture: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        columns = TextColumn("In force:"), BarColumn(), MofNCompleteColumn()
        last = TextColumn("{task.fields[waiting]}")
        console = Console(file=self.app.stderr)
        with Progress(*columns, last, console=console, transient=True) as progress:
            task = progress.add_task("", total=None, waiting="")

            def show(picture: Picture) -> None:
                names = sorted({agent.host for agent in (*picture.pending, *picture.failed)})
                waiting = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
                progress.update(
                    task,
                    completed=len(picture.settled),
                    total=picture.waited_for,
                    waiting=f"waiting for {waiting}" if waiting else "",
                )

            yield show

    def _conclude(self, picture: Picture, seconds: float) -> None:
        if picture.gone:
            names = ", ".join(sorted({agent.host for agent in picture.gone}))
            self.note(f"Not waited for, because they are down: {names}.")
        late = (*picture.failed, *picture.pending)
        style = Style.of(self.app.stderr, self.app.env)
        if not late:
            if not picture.settled:
                self.note("No host is there yet that it could be in force on.")
                return
            hosts = len({agent.host for agent in picture.settled})
            self.note(f"In force on {hosts} host{'' if hosts == 1 else 's'}, after {age(seconds)}.")
            for agent in picture.settled:
                if agent.reason:
                    self.note(f"  {agent.host} {agent.service}: {agent.state}: {agent.reason}")
            return
        for agent in late:
            reason = inforce.why(agent, picture.revision)
            self.note(
                f"  {agent.host} {agent.service}: {style.state(str(agent.state))}"
                + (f": {reason}" if reason else "")
            )
        failed = f"{len(picture.failed)} in error" if picture.failed else ""
        pending = (
            f"{len(picture.pending)} not ready after {age(seconds)}" if picture.pending else ""
        )
        told = ", ".join(part for part in (failed, pending) if part)
        raise NotInForce(f"not in force on all of {picture.waited_for} agents: {told}")
