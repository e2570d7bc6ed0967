# SPDX-License-Identifier: Apache-2.0
"""cnsmo-manage db: look after the database. These go to it directly; no core is asked."""

from __future__ import annotations

import argparse
import datetime

from cnsmo.manage import durations
from cnsmo.manage.command import Command, ShowCommand
from cnsmo.model.errors import InvalidRequest


class Upgrade(Command):
    """Bring the database to the schema of this release; make it if it is not there.

    With a new database comes the key that its secrets are sealed with ([secrets] key_file): back it
    up apart from the database, and give it to all cores. Safe to repeat.

    While cores run: first --expand, which only adds, so that those of the release before go on
    working; then restart the cores one by one with this release; then --contract. Without either,
    all is done at once, for which no core of the release before may run.
    """

    writes = True
    examples = """
cnsmo-manage db upgrade
cnsmo-manage db upgrade --dry-run    # from which version to which
cnsmo-manage db upgrade --expand     # before the first core of this release is started
cnsmo-manage db upgrade --contract   # after the last one of the release before has ended
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        part = parser.add_mutually_exclusive_group()
        part.add_argument("--expand", action="store_true", help="only add what this release needs")
        part.add_argument(
            "--contract", action="store_true", help="take away what it does not need any more"
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        from cnsmo.state import schema, sealing

        path = self.session.database_file()
        newest = schema.needed() if parsed_args.expand else schema.newest()
        fresh = path is not None and not path.exists()
        before = None if fresh else schema.current(self.session.engine())
        if before is not None and before >= newest:
            sealing.check(self.session.engine(), self.session.vault())
            self.say(f"The database has schema {before} already.")
            return
        if parsed_args.dry_run:
            made = f"make the database {path} with" if fresh else f"go from {before or '(none)'} to"
            self.dry(f"{made} schema {newest}")
            return
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as exc:
                raise InvalidRequest(
                    f"the directory {path.parent} cannot be made: {exc.strerror}. Run this as the "
                    "user that runs cnsmo-core, or set [database] connection"
                ) from exc
        parts = {(True, False): schema.expand, (False, True): schema.contract}
        part = parts.get((parsed_args.expand, parsed_args.contract), schema.upgrade)
        part(self.session.engine(patient=True))
        self.say(f"The database went from schema {before or '(none)'} to {newest}.")
        self._seal(before)

    def _seal(self, before: str | None) -> None:
        """Seal it; with a key that is made, if the database comes from before there were keys."""
        from cnsmo.state import sealing

        vault = self.session.vault()
        if (before is None or before < sealing.SCHEMA) and not vault.path.exists():
            vault.create()
            self.say(f"The key of its secrets is in {vault.path}: back it up.")
        sealing.check(self.session.engine(), vault)


class Version(ShowCommand):
    """Show which schema the database has, and which one this release needs."""

    examples = """
cnsmo-manage db version
cnsmo-manage db version -f value -c current
"""

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], tuple[object, ...]]:
        from cnsmo.state import schema

        path, newest = self.session.database_file(), schema.newest()
        fresh = path is not None and not path.exists()
        engine = self.session.engine()
        current = None if fresh else schema.current(engine)
        where = engine.url.render_as_string(hide_password=True).partition("?")[0]
        shown = current or ("" if parsed_args.formatter != "table" else "(none)")
        return ("Database", "Current", "Needed", "Upgrade needed"), (
            where,
            shown,
            newest,
            current != newest,
        )


class Purge(Command):
    """Forget what was deleted long ago.

    Deleted things are remembered for a while, so that agents that were away learn of it. Agents
    that were away for longer than that fetch everything anew. A running core does this by itself
    ([core] purge_after); this command is for those who want it now.
    """

    writes = True
    in_deployment = True
    examples = """
cnsmo-manage db purge -d shop
cnsmo-manage db purge -d shop --older-than 7d --dry-run
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--older-than",
            type=durations.seconds,
            metavar="DURATION",
            help="as 12h or 7d; default: [core] purge_after",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        from cnsmo.state import schema
        from cnsmo.state.store import Store

        name = self.deployment(parsed_args)
        self.session.require_database()
        engine = self.session.engine()
        schema.check(engine)
        store = Store(engine, self.session.vault())
        seconds = parsed_args.older_than
        if seconds is None:
            seconds = self.session.conf.core.purge_after
        keep = datetime.timedelta(seconds=seconds)
        told = f"deleted more than {durations.words(seconds)} ago"
        if parsed_args.dry_run:
            horizon = datetime.datetime.now(datetime.UTC) - keep
            rows = store.changes(name).rows
            count = sum(row.deleted and row.updated_at < horizon for row in rows)
            self.dry(f"forget {_rows(count)} of {name}, {told}")
            return
        self.say(f"{name}: {_rows(store.purge(name, keep))} forgotten, {told}.")


def _rows(count: int) -> str:
    return f"{count} row{'' if count == 1 else 's'}"
