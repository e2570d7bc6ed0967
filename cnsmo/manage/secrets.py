# SPDX-License-Identifier: Apache-2.0
"""cnsmo-manage secrets: the key that the database's secrets are sealed with. No core is asked."""

from __future__ import annotations

import argparse
from typing import Any

from cnsmo.manage.command import Command, ShowCommand
from cnsmo.model.errors import InvalidRequest

STAGE = (
    "only make the next key, so that its file can be copied to all cores before anything is sealed "
    "with it"
)
KEEP = (
    "leave the old key in the file, for cores on other machines that have the old file; the next "
    "'rotate' ends this rotation"
)


class Init(Command):
    """Make the key that the database's secrets are sealed with.

    'cnsmo-manage db upgrade' does that for a new database. Run it as the user that runs cnsmo-core,
    and back the file up apart from the database: without it, all hosts have to join anew.
    """

    writes = True
    examples = """
cnsmo-manage secrets init
"""

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        from cnsmo.model.errors import Conflict

        vault = self.session.vault()
        if parsed_args.dry_run:
            if vault.path.exists():
                raise Conflict(vault.taken())
            self.dry(f"make a key in {vault.path}")
            return
        vault.create()
        self.say(f"The key is in {vault.path}: back it up.")


class Show(ShowCommand):
    """Show how the database's secrets are sealed; never a key.

    'By others': values that no key in the file opens, so that nobody is believed who relies on one.
    """

    examples = """
cnsmo-manage secrets show
cnsmo-manage secrets show -f value -c by_former_keys
"""

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        from cnsmo.state import schema, sealing

        vault = self.session.vault()
        kept = vault.load()
        self.session.require_database()
        engine = self.session.engine()
        schema.check(engine)
        found = sealing.count(engine, vault)
        columns = "Key file", "Former keys", "Next key", "Sealed", "By former keys", "By others"
        return columns, (
            str(vault.path),
            len(kept.former),
            kept.next is not None,
            found.current,
            found.former,
            found.foreign,
        )


class Rotate(Command):
    """Seal the database's secrets with a new key, while cores run.

    Broken off, it is carried on when it is run again. Where cores run on several machines, three
    steps let them go on all the time: 'rotate --stage', 'rotate --keep', 'rotate'; after each of
    them the key file is copied to all cores. Nothing changes for hosts.
    """

    writes = True
    examples = """
cnsmo-manage secrets rotate
cnsmo-manage secrets rotate --stage    # then copy the file to all cores
cnsmo-manage secrets rotate --keep     # and again
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("--stage", action="store_true", help=STAGE)
        parser.add_argument("--keep", action="store_true", help=KEEP)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        from cnsmo.state import schema, sealing

        if parsed_args.stage and parsed_args.keep:
            raise InvalidRequest("--stage and --keep: one step after the other")
        vault = self.session.vault()
        kept = vault.load()
        self.session.require_database()
        engine = self.session.engine()
        schema.check(engine)
        sealing.check(engine, vault)
        if parsed_args.dry_run:
            found = sealing.count(engine, vault)
            self.dry(f"seal {found.current + found.former} values with a new key")
        elif parsed_args.stage:
            sealing.stage(vault)
            self.say(f"The next key is in {vault.path}: copy it to all cores; then 'rotate --keep'")
        else:
            done = sealing.rotate(engine, vault, parsed_args.keep)
            carried_on = "; a rotation that was begun before is carried on" * bool(kept.former)
            old = "stays in the file" if parsed_args.keep else "is gone"
            self.say(f"{done} values sealed with the new key{carried_on}. The old key {old}.")


class Reset(Command):
    """Go on with a new key after the key file was lost, with no backup of it. Stop all cores first.

    What is lost: every host has to join again (give it a fresh token in [agent] token_file: its
    agent sees that by itself, and it is the same host as before), every token is worthless, and
    the audit of each deployment shows where its seal was broken. What is declared and what is in
    force on the hosts stays.
    """

    writes = True
    examples = """
cnsmo-manage secrets reset --dry-run
cnsmo-manage secrets reset --yes
"""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("--yes", action="store_true", help="it is lost, and nobody has a copy")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        from cnsmo.bus.clients import author
        from cnsmo.model.audit import Act
        from cnsmo.state import reset, schema
        from cnsmo.state.store import Store

        vault = self.session.vault()
        self.session.require_database()
        engine = self.session.engine()
        schema.check(engine)
        lost = reset.loss(engine, vault)
        cost = f"{lost.hosts} hosts have to join again, and {lost.tokens} tokens are worthless"
        if parsed_args.dry_run:
            self.dry(f"make a new key in {vault.path}: {cost}")
            return
        if not parsed_args.yes:
            raise InvalidRequest(
                f"{cost}. Is [secrets] key_file right, and is there no copy in a backup or on "
                "another core? Then say --yes"
            )
        reset.reset(Store(engine, vault), Act.of_operator(author(), reset.ACTION))
        self.say(f"A new key is in {vault.path}: back it up, and copy it to all cores. {cost}.")
